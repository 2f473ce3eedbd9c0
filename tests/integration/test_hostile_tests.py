"""Tests that leave things behind, forge their verdict, or make a real kernel complain.

What they do is in the Go program `hostile/`.
"""

import functools
import os
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.results import files
from bpfmatrix.results.outcome import Outcome
from tests.integration.kernels import KERNELS

from ..tool import NO_PAYLOAD, ToolProject, by_name
from .bpfobjects import compile_object

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent

# A process that leaves its cgroup and its session, and goes on printing.
ESCAPES = """
mkdir /sys/fs/cgroup/mine && echo $$ >/sys/fs/cgroup/mine/cgroup.procs
(setsid sh -c 'trap "" TERM HUP; while :; do echo survivor; usleep 10000; done' &)
"""
# An executable that ends only when somebody kills it.
WAITS = "while :; do sleep 1; done"
FORGED_PANIC = """
echo 'Kernel panic - not syncing: this is a lie' >/dev/kmsg
echo b >/proc/sysrq-trigger
sleep 600
"""
NO_PVPANIC = "module_blacklist=pvpanic,pvpanic_mmio,pvpanic_pci"
# A process that waits for a file system that is frozen, for which the kernel watches.
HANGS_IN_THE_KERNEL = """
set -e
dd if=/dev/zero of=/tmp/image bs=1M count=4 2>/dev/null
losetup /dev/loop0 /tmp/image
mke2fs /dev/loop0 >/dev/null
mkdir /tmp/frozen
mount -t ext4 /dev/loop0 /tmp/frozen
echo 1 >/proc/sys/kernel/hung_task_timeout_secs
echo 1 >/proc/sys/kernel/hung_task_check_interval_secs
fsfreeze --freeze /tmp/frozen
touch /tmp/frozen/file &
sleep 5
"""


@functools.cache
def _hostile(folder: Path) -> Path:
    target = folder / "hostile"
    subprocess.run(
        ["go", "build", "-o", target, "."],
        cwd=HERE / "hostile",
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
        check=True,
    )
    return target


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, for the host's architecture."""
    return _hostile(tmp_path_factory.mktemp("hostile"))


def configure(project: ToolProject, hostile: Path, kernel: str = "6.1", **defaults: object) -> None:
    """Write kernels.yaml with the program `hostile` as a file of the payload."""
    payload = {**NO_PAYLOAD, "files": {"hostile": str(hostile)}}
    project.configure([kernel], payload, **defaults)


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_of_a_test_is_left_for_the_next_one(
    project: ToolProject, hostile: Path, kernel: str
) -> None:
    configure(project, hostile, kernel, modules=["dummy", "sch_ingress", "cls_bpf"])
    done, run = project.run(
        project.script("leaves", "/payload/hostile leave"),
        project.script("finds_nothing", "/payload/hostile check"),
        project.script("leaves_again", "/payload/hostile leave"),
        kernel=kernel,
    )
    assert run.outcome is Outcome.PASSED, done.output
    assert run.leftovers == ()


def test_the_check_finds_what_is_there(project: ToolProject, hostile: Path) -> None:
    configure(project, hostile, modules=["dummy", "sch_ingress", "cls_bpf"])
    script = "/payload/hostile leave; /payload/hostile check"
    _, run = project.run(project.script("leaves", script))
    [test] = run.tests
    assert test.outcome is Outcome.FAILED
    for what in ("process", "file", "mount", "probe", "network device", "eBPF program"):
        assert f"a{'n' if what[0] == 'e' else ''} {what}" in test.output


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_a_mount_that_was_changed_stays_and_is_in_the_result(
    project: ToolProject, kernel: str
) -> None:
    project.configure([kernel])
    _, run = project.run(
        project.script("remounts", "mount -o remount,noexec /tmp"),
        project.script(
            "finds_it", "set -e; test -e /proc/self; echo x >/tmp/x; grep -q noexec /proc/mounts"
        ),
        kernel=kernel,
    )
    assert run.outcome is Outcome.PASSED
    assert [(one.binary, one.what) for one in run.leftovers] == [
        ("remounts", "a mount was changed: /tmp")
    ]


def test_a_note_of_the_state_that_is_gone_is_told(project: ToolProject) -> None:
    _, run = project.run(
        project.script("removes_it", "rm /etc/state"), project.script("second", "true")
    )
    assert run.outcome is Outcome.PASSED
    assert run.leftovers[0].what.startswith("what it left behind is not known")


def test_what_struct_ops_registered_is_unregistered(project: ToolProject, hostile: Path) -> None:
    target = project.root / "structops.bpf.o"
    compile_object(HERE / "objects/structops.bpf.c", target)
    files = {"hostile": str(hostile), "structops.bpf.o": target.name}
    project.configure(payload={**NO_PAYLOAD, "files": files})
    control = "/proc/sys/net/ipv4/tcp_available_congestion_control"
    done, run = project.run(
        project.script("registers", f"/payload/hostile register && grep calm {control}"),
        project.script("sees_none", f"! grep calm {control}"),
    )
    assert run.outcome is Outcome.PASSED, done.output
    assert run.leftovers == ()


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_a_process_that_escapes_prints_nothing_into_the_next_log(
    project: ToolProject, kernel: str
) -> None:
    project.configure([kernel])
    _, run = project.run(
        project.script("escapes", ESCAPES),
        project.script("comes_next", "sleep 1; ! ps | grep '[u]sleep 10000'"),
        kernel=kernel,
    )
    assert run.outcome is Outcome.PASSED
    assert by_name(run)["comes_next"].output == ""


def test_what_can_not_be_removed_is_in_the_result(project: ToolProject) -> None:
    project.configure(modules=["cls_bpf"])
    sysctl = "/proc/sys/kernel/kptr_restrict"
    done, run = project.run(
        # Once it is 1, it stays 1 until the kernel is booted again.
        project.script("locks", "echo 1 >/proc/sys/kernel/unprivileged_bpf_disabled"),
        project.script("sets", f"echo 2 >{sysctl}; rmmod cls_bpf"),
        project.script("sees_it_set_back", f'read -r value <{sysctl}; test "$value" = 0'),
    )
    assert run.outcome is Outcome.PASSED, done.output
    found = [(one.binary, one.what) for one in run.leftovers]
    assert found == [
        ("locks", "a sysctl was changed: kernel/unprivileged_bpf_disabled is now 1"),
        ("locks", "could not be set back: sysctl kernel/unprivileged_bpf_disabled"),
        ("sets", "a sysctl was changed: kernel/kptr_restrict is now 2"),
        ("sets", "a kernel module was removed: cls_bpf"),
    ]
    assert "kernel/unprivileged_bpf_disabled is now 1" in done.output


def test_what_the_last_test_changed_is_in_the_result(project: ToolProject) -> None:
    script = "echo 1 >/proc/sys/kernel/kptr_restrict; modprobe -r cls_bpf"
    project.configure(modules=["cls_bpf"])
    _, run = project.run(project.script("sets", script), options=["--core"])
    assert run.outcome is Outcome.PASSED
    assert [one.what for one in run.leftovers] == [
        "a sysctl was changed: kernel/kptr_restrict is now 1",
        "a kernel module was removed: cls_bpf",
    ]


def test_each_executable_can_have_a_guest_of_its_own(project: ToolProject) -> None:
    project.configure(isolation="test")
    done, run = project.run(
        project.script("leaves_a_file", "echo hello >/tmp/file"),
        project.script("panics", "echo c >/proc/sysrq-trigger; sleep 600"),
        project.script("finds_no_file", "test ! -e /tmp/file"),
    )
    outcomes = {name: test.outcome for name, test in by_name(run).items()}
    assert outcomes == {
        "leaves_a_file": Outcome.PASSED,
        "panics": Outcome.PANIC,
        "finds_no_file": Outcome.PASSED,
    }
    assert run.outcome is Outcome.PANIC
    assert run.reason == "panic after 1 test: sysrq triggered crash"
    assert "sysrq triggered crash" in (project.root / run.console).read_text()
    assert done.status == 1


@pytest.mark.parametrize(
    ("kernel", "after"), [("5.10", "exit 1"), ("6.1", "exit 0"), ("7.3", WAITS)]
)
def test_a_forged_verdict_makes_the_run_lost(
    project: ToolProject, hostile: Path, kernel: str, after: str
) -> None:
    configure(project, hostile, kernel)
    done, run = project.run(
        project.script("forges", f"/payload/hostile forge; {after}"),
        kernel=kernel,
        options=["--timeout", "5s"],
    )
    assert run.outcome is Outcome.LOST, done.output
    assert "a process other than the guest's init wrote to the control port" in run.reason
    assert by_name(run)["forges"].outcome is Outcome.LOST
    assert done.status == 1


def test_nothing_can_be_read_from_the_control_port(project: ToolProject, hostile: Path) -> None:
    configure(project, hostile)
    _, run = project.run(
        project.script("listens", "/payload/hostile listen"), project.script("second", "true")
    )
    assert run.outcome is Outcome.PASSED, run.tests


def test_the_words_of_a_panic_are_no_panic(project: ToolProject) -> None:
    _, run = project.run(project.script("lies", FORGED_PANIC))
    assert run.outcome is Outcome.LOST
    assert run.reason == "machine lost after 0 tests: the guest ended its machine (guest-reset)"


def test_a_panic_that_only_the_console_tells_is_a_guess(project: ToolProject) -> None:
    project.configure(kernel_args=[NO_PVPANIC])
    for script in ("echo c >/proc/sysrq-trigger; sleep 600", FORGED_PANIC):
        _, run = project.run(project.script("ends_it", script))
        assert run.outcome is Outcome.PANIC
        assert run.reason.endswith(" (a guess by the console: the kernel has no pvpanic driver)")


def test_a_hung_task_is_reported(project: ToolProject) -> None:
    project.configure(modules=["loop"])
    done, run = project.run(
        project.script("before", "true"), project.script("hangs", HANGS_IN_THE_KERNEL)
    )
    assert run.outcome is Outcome.PASSED, done.output
    warning = run.warnings[0]
    assert warning.title.startswith("INFO: task touch:")
    assert "blocked for more than 1 seconds" in warning.title
    assert warning.during == "hangs"
    assert len(warning.lines) > 1
    assert f"{len(run.warnings)} kernel warning" in done.output
    assert warning.title in done.output


@pytest.mark.parametrize(
    ("policy", "expected", "outcome", "reported"),
    [
        ("ignore", None, Outcome.PASSED, False),
        ("fail", None, Outcome.FAILED, True),
        ("fail", "*soft lockup*", Outcome.PASSED, True),
    ],
)
def test_a_soft_lockup_is_what_kernels_yaml_says(
    project: ToolProject,
    hostile: Path,
    policy: str,
    expected: str | None,
    outcome: Outcome,
    reported: bool,
) -> None:
    compile_object(HERE / "objects/busy.bpf.c", project.root / "busy.bpf.o")
    files = {"hostile": str(hostile), "busy.bpf.o": "busy.bpf.o"}
    project.configure(payload={**NO_PAYLOAD, "files": files}, kernel_warnings=policy)
    if expected:
        project.expect(warning=expected, reason="it is on purpose")
    done, run = project.run(project.script("locks_up", "/payload/hostile lock-up"))
    assert by_name(run)["locks_up"].outcome is Outcome.PASSED, done.output
    assert run.outcome is outcome
    found = [one for one in run.warnings if "soft lockup" in one.title]
    assert bool(found) is reported
    assert all(one.during == "locks_up" for one in found)
    if outcome is Outcome.FAILED:
        assert "BUG: soft lockup" in run.reason
    if expected:
        assert found[0].expected == "it is on purpose"


def test_a_warning_that_the_console_does_not_show_is_still_reported(project: ToolProject) -> None:
    # The kernel taints itself with what is written here (Documentation/admin-guide/sysctl/kernel).
    _, run = project.run(project.script("taints", "echo 512 >/proc/sys/kernel/tainted"))
    assert run.outcome is Outcome.PASSED
    [warning] = run.warnings
    assert warning.title.startswith("WARNING: the kernel is tainted by a warning")
    assert warning.during == "taints"


def test_a_warning_while_programs_are_loaded_is_in_the_verification(project: ToolProject) -> None:
    compile_object(HERE / "objects/busy.bpf.c", project.root / "busy.bpf.o")
    project.configure(kernel_args=["sysctl.kernel.watchdog_thresh=1"], kernel_warnings="fail")
    done = project.invoke("verify", "busy.bpf.o", "--attach", "--kernels", "6.1")
    verification = files.read_verification(project.root / ".bpfmatrix/verify/6.1.json")
    assert [program.outcome for program in verification.programs] == [Outcome.PASSED] * 2
    assert "BUG: soft lockup" in verification.warnings[0].title
    assert verification.outcome is Outcome.FAILED
    assert verification.warnings[0].title in done.output
    assert done.status == 1
