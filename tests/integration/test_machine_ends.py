"""Machines that end too early or never get ready: what their outcome is, and what they leave."""

import os
import signal
from pathlib import Path

import pytest

from bpfmatrix.kernels.formats import guest_core
from bpfmatrix.results.outcome import Outcome
from tests.tool import ToolProject, by_name, qemus_of, wait_until

pytestmark = pytest.mark.integration

# Overwrites the code of process 1, which then dies by a signal.
KILLS_INIT = """
grep r-xp /proc/1/maps
grep r-xp /proc/1/maps | grep -v -e vdso -e vsyscall | while IFS='- ' read -r from to rest; do
	from=$((0x$from)) to=$((0x$to))
	dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((from / 4096)) count=$(((to - from) / 4096))
done
# init waits for this script, and dies when it goes on.
"""


@pytest.mark.parametrize(
    ("script", "outcome", "reason"),
    [
        (KILLS_INIT, Outcome.PANIC, "Attempted to kill init!"),
        ("reboot -f; sleep 600", Outcome.LOST, "the guest ended its machine (guest-reset)"),
        ("poweroff -f; sleep 600", Outcome.LOST, "the guest ended its machine (guest-shutdown)"),
    ],
    ids=["init", "reboot", "poweroff"],
)
def test_a_test_that_ends_the_machine_gets_the_machines_outcome(
    project: ToolProject, script: str, outcome: Outcome, reason: str
) -> None:
    done, run = project.run(project.script("before", "true"), project.script("ends_it", script))
    tests = by_name(run)
    assert run.outcome is outcome, done.output
    assert reason in run.reason
    assert "after 1 test:" in run.reason
    assert tests["before"].outcome is Outcome.PASSED
    assert tests["ends_it"].outcome is outcome
    assert done.status == 1
    assert reason in done.output


def unpacked(project: ToolProject, dump: str) -> Path:
    """Unpack the core file of a guest's memory."""
    target = project.root / "unpacked"
    guest_core.unpack(project.root / dump, target)
    return target


def test_a_panic_leaves_the_guests_memory_if_that_is_asked_for(project: ToolProject) -> None:
    crashes = project.script("crashes", "echo c >/proc/sysrq-trigger; sleep 60")
    done, run = project.run(crashes, options=["--dump"])
    assert run.outcome is Outcome.PANIC, done.output
    assert run.dumps == (".bpfmatrix/results/6.1/vmcore.zst",)
    assert "memory        .bpfmatrix/results/6.1/vmcore.zst" in done.output
    assert "debug --core .bpfmatrix/results/6.1/vmcore.zst" in done.output
    # The kernel went on to its end: the stack is in the console, and so in the result.
    assert any(line.startswith("sysrq_handle_crash+0x") for line in run.trace)

    path = unpacked(project, run.dumps[0])
    core = guest_core.read(path, path)
    assert (core.release, core.arch) == (run.release, "x86_64")
    assert guest_core.for_gdb(path, core, path) > 10
    # Another run of this kernel does not show the old file as its own.
    _, again = project.run(project.script("quiet", "true"), options=["--dump"])
    assert (again.outcome, again.dumps) == (Outcome.PASSED, ())
    assert not (project.root / run.dumps[0]).exists()

    wrong = project.invoke("debug", "--core", crashes, "--batch", "backtrace")
    assert wrong.status == 2
    assert "crashes is no core file of a guest: it is no ELF file" in wrong.output


def test_a_guest_that_falls_silent_is_lost(project: ToolProject) -> None:
    # Puts init into a frozen cgroup, so that it never reports how the test ended.
    wedges = """
        mkdir /sys/fs/cgroup/ice
        echo 1 >/sys/fs/cgroup/ice/cgroup.procs
        echo 1 >/sys/fs/cgroup/ice/cgroup.freeze
    """
    done, run = project.run(
        project.script("before", "true"),
        project.script("wedges", wedges),
        options=["--timeout", "1s", "--dump"],
    )
    assert run.outcome is Outcome.LOST, done.output
    [dumped] = run.dumps
    assert guest_core.read(unpacked(project, dumped), Path(dumped)).release == run.release
    assert "the guest gave no sign of life for 16 s" in run.reason
    assert by_name(run)["before"].outcome is Outcome.PASSED
    assert by_name(run)["wedges"].outcome is Outcome.LOST


def test_the_whole_run_has_a_limit(project: ToolProject) -> None:
    project.configure(timeout={"run": "0.9s"}, qemu={"accel": "tcg"})
    _, run = project.run(project.script("before", "true"), project.script("long", "sleep 600"))
    assert run.outcome is Outcome.TIMEOUT
    assert (
        run.reason == "the run took over 9 s (timeout.run: 0.9 s, 10 times as long under emulation)"
    )
    assert by_name(run)["long"].outcome is Outcome.TIMEOUT
    assert qemus_of(project) == []


def test_a_boot_that_has_no_init_panics(project: ToolProject) -> None:
    project.configure(kernel_args=["rdinit=/nonexistent"])
    done, run = project.run(project.script("never", "true"))
    assert run.outcome is Outcome.PANIC
    assert run.reason.startswith("panic: VFS: Unable to mount root fs")
    assert run.tests == ()
    assert "Kernel panic - not syncing: VFS" in done.output
    assert done.status == 1


def test_a_boot_that_never_gets_ready_has_a_limit(project: ToolProject) -> None:
    # A shell, which waits for input that never comes.
    project.configure(
        kernel_args=["rdinit=/bin/sh"], timeout={"boot": "0.8s"}, qemu={"accel": "tcg"}
    )
    done, run = project.run(project.script("never", "true"))
    assert run.outcome is Outcome.TIMEOUT
    limit = "8 s (timeout.boot: 0.8 s, 10 times as long under emulation)"
    assert run.reason == f"the kernel was not up after {limit}"
    console = (project.root / run.console).read_text(errors="replace").splitlines()
    # Only the time stamp: tabs in the line are printed as spaces.
    assert console[-2].partition("]")[0] in done.output
    assert done.seconds < 60
    assert qemus_of(project) == []


def started(project: ToolProject, name: str) -> bool:
    """Tell whether a test was started in the guest: its log is created then."""
    return (project.root / f".bpfmatrix/results/6.1/{name}.log").exists()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (signal.SIGKILL, "QEMU died of signal 9"),
        (signal.SIGSEGV, "QEMU died of signal 11"),
        # QEMU ends in good order then, with the status 0.
        (signal.SIGTERM, "QEMU was ended by a signal (SIGTERM, SIGINT or SIGHUP)"),
    ],
)
def test_a_killed_qemu_is_a_lost_machine(
    project: ToolProject, sent: signal.Signals, reason: str
) -> None:
    words = (
        "--binary",
        project.script("before", "true"),
        "--binary",
        project.script("x", "sleep 600"),
    )
    process = project.start("run", "--kernel", "6.1", *words)
    wait_until(lambda: started(project, "x"), "the test runs")
    [qemu] = qemus_of(project)
    os.kill(qemu, sent)
    done, run = project.finish(process), project.result()
    assert run.outcome is Outcome.LOST
    assert run.reason == f"machine lost after 1 test: {reason}"
    assert by_name(run)["x"].outcome is Outcome.LOST
    assert done.status == 1


def test_no_qemu_outlives_its_parent(project: ToolProject) -> None:
    script = project.script("x", "sleep 600")
    process = project.start("run", "--kernel", "6.1", "--binary", script)
    wait_until(lambda: started(project, "x"), "the test runs")
    assert len(qemus_of(project)) == 1
    process.kill()
    wait_until(lambda: not qemus_of(project), "QEMU ended")
    project.finish(process)


@pytest.mark.parametrize("boots", [False, True], ids=["test", "boot"])
def test_ctrl_c_ends_it_and_says_what_had_run(
    project: ToolProject, own_cache: Path, boots: bool
) -> None:
    words = (
        "--binary",
        project.script("before", "true"),
        "--binary",
        project.script("x", "sleep 600"),
    )
    process = project.start(
        *("run", "--kernel", "6.1", *words),
        env={"BPFMATRIX_CACHE": str(own_cache)},
        start_new_session=True,
    )
    if boots:
        # Earlier, a QEMU may run to probe KVM.
        console = project.root / ".bpfmatrix/results/6.1/console.log"
        wait_until(lambda: console.exists() and qemus_of(project), "the kernel boots")
    else:
        wait_until(lambda: started(project, "x"), "the test runs")
    # A terminal sends it to the whole process group.
    os.killpg(process.pid, signal.SIGINT)
    done, run = project.finish(process), project.result()
    assert done.seconds < 60  # far below the limit of the test
    assert qemus_of(project) == []
    assert done.status == 130
    assert run.outcome is Outcome.INTERRUPTED
    assert "interrupted" in done.output
    assert "Traceback" not in done.output
    assert list((own_cache / "tmp").iterdir()) == []
    if not boots:
        assert by_name(run)["before"].outcome is Outcome.PASSED
        assert by_name(run)["x"].outcome is Outcome.INTERRUPTED
        assert "before" in done.output
