"""Warm templates of real kernels: restored guests, damaged templates, killed and parallel runs.

The tests share a cache of their own, with the kernels of the user's cache. The fixture `saved` puts
a fresh copy of a template into it for each test.
"""

import contextlib
import dataclasses
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bpfmatrix import kernels
from bpfmatrix.cli.run import run_chosen
from bpfmatrix.cli.run_choice import TESTS
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.guest import busybox
from bpfmatrix.host.architecture import ARCHITECTURES, X86_64
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload import disk
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session import preparation
from bpfmatrix.session.observer import Observer
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWorkload
from bpfmatrix.vm import launch, machine, template
from bpfmatrix.vm.template import Template
from tests.tool import REPOSITORY, ToolProject, plain_environment, qemus_of, wait_until

pytestmark = pytest.mark.integration

# It boots fastest.
KERNEL = "5.10"
SHARED = ("kernels", "refs", "busybox", "kvm-probe.json")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The cache of these tests. `share` puts kernels into it."""
    return Cache(tmp_path_factory.mktemp("cache"))


def share(kernel: KernelConfig, cache: Cache) -> None:
    """Link a kernel of the user's cache, into which it is fetched if it is missing, to a cache."""
    users = Cache.default()
    kernels.provide(kernel, users)
    busybox.executable(kernel.arch, users)
    for name in SHARED:
        if (users.root / name).exists():
            # Only what is not there yet.
            words = ["cp", "-a", "--link", "--no-clobber", str(users.root / name), str(cache.root)]
            if subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode:
                words.remove("--link")  # another file system
                subprocess.run(words, check=True)


@dataclass(frozen=True)
class Runner:
    """A project and a cache. The library runs scripts in this process, or the tool in another."""

    tool: ToolProject
    cache: Cache

    @property
    def project(self) -> Project:
        return dataclasses.replace(Project.load(self.tool.root), cache=self.cache)

    @property
    def env(self) -> dict[str, str]:
        return {"BPFMATRIX_CACHE": str(self.cache.root)}

    def run(self, script: str, kernel: str = KERNEL, cold: bool = False) -> tuple[KernelRun, str]:
        """Run a script; return its result, and what was printed."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            options = RunOptions(binaries=(self.script(script),), cold=cold)
            [result] = run_chosen(self.project, [kernel], TESTS, options).runs
        return result, said.getvalue()

    def script(self, text: str) -> Path:
        return self.tool.root / self.tool.script("script", text)

    def start(self, script: str) -> "subprocess.Popen[str]":
        """Start the tool with a script."""
        words = ("run", "--kernel", KERNEL, "--binary", str(self.script(script)))
        return self.tool.start(*words, env=self.env)

    def templates(self) -> list[Template]:
        return [Template(path) for path in sorted((self.cache.root / "templates").glob("*"))]


def lines_about_templates(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("template")]


@pytest.fixture
def runner(project: ToolProject, cache: Cache) -> Runner:
    """A runner with no template."""
    project.configure([KERNEL])
    made = Runner(project, cache)
    share(made.project.config.kernel(KERNEL), cache)
    shutil.rmtree(cache.root / "templates", ignore_errors=True)
    return made


@pytest.fixture(scope="module")
def original(cache: Cache) -> Path:
    return cache.root / "original"


@pytest.fixture
def saved(runner: Runner, original: Path) -> Template:
    """The template of KERNEL, whole."""
    target = runner.cache.root / "templates"
    if not original.exists():
        assert runner.run("true")[0].outcome is Outcome.PASSED
        target.rename(original)
    subprocess.run(["cp", "-a", "--sparse=always", original, target], check=True)
    [found] = runner.templates()
    assert found.damage() == ""
    return found


# What a restored guest is


@pytest.mark.parametrize("kernel", [KERNEL, "7.3", "6.1-arm64"])
def test_each_restored_guest_has_its_own_random_numbers_clock_and_payload(
    project: ToolProject, cache: Cache, kernel: str
) -> None:
    ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["kernels"]
    project.configure([])
    (project.root / "kernels.yaml").write_text(
        yaml.safe_dump({"payload": {"ebpf": None, "go": None}, "kernels": {kernel: ours[kernel]}})
    )
    runner = Runner(project, cache)
    share(runner.project.config.kernel(kernel), cache)
    shutil.rmtree(cache.root / "templates", ignore_errors=True)

    seen = []
    # The first random bytes: later ones differ in any case, since the kernel reseeds itself.
    script = """
        dd if=/dev/urandom bs=32 count=1 2>/dev/null | hexdump -v -e '32/1 "%02x" "\\n"'
        date +%s
        hostname
        uname -r
        cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id
        echo this is run NUMBER
    """
    for number, start in enumerate(["warm, template made", "warm template", "warm template"]):
        before = time.time()
        result, output = runner.run(script.replace("NUMBER", str(number)), kernel)
        after = time.time()
        assert result.outcome is Outcome.PASSED, output
        assert result.start == "warm"
        assert f"boot    {start}" in output
        random, clock, host, release, uuid, boot_id, which = (
            (project.root / result.logs[0]).read_text().splitlines()
        )
        assert before - 2 <= int(clock) <= after + 2
        assert host == "kernel-" + kernel.replace(".", "-")
        assert release == result.release
        # The payload is that of this run, not that for which the template was made.
        assert which == f"this is run {number}"
        seen.append((random, uuid, boot_id))
    for values in zip(*seen, strict=True):
        assert len(set(values)) == len(values), values
    assert len(runner.templates()) == 1

    result, output = runner.run("uname -r", kernel, cold=True)
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold")
    assert "boot    cold" in output


def test_templates_are_listed_with_their_size_on_disk(runner: Runner, saved: Template) -> None:
    listed = runner.tool.invoke("kernels.list", "--json", env=runner.env)
    [row] = json.loads(listed.output)
    taken = subprocess.check_output(["du", "-s", "--block-size=1", str(saved.folder)], text=True)
    assert row["templates"] == 1
    # du also counts the folder itself.
    assert 0 <= int(taken.split()[0]) - row["template_bytes"] <= 1 << 16
    # The guest never wrote to most of its 512 MB of memory.
    assert row["template_bytes"] < saved.memory.stat().st_size / 2


def test_the_console_of_a_restored_guest_begins_with_its_boot(
    runner: Runner, saved: Template
) -> None:
    path = runner.tool.root / f".bpfmatrix/results/{KERNEL}/console.log"
    process = runner.start("echo to the console >/dev/kmsg; sleep 60")
    wait_until(lambda: path.exists() and "to the console\n" in path.read_text(), "it is there")
    process.kill()
    runner.tool.finish(process)
    console = path.read_text()
    assert "Linux version 5.10" in console
    assert "to the console" in console.splitlines()[-1]


@pytest.mark.parametrize(
    "other",
    [
        {"qemu": {"memory": "448M"}},
        {"qemu": {"cpus": 1}},
        {"qemu": {"extra_args": ["-name", "another"]}},
    ],
    ids=["memory", "cpus", "extra_args"],
)
def test_a_template_of_another_machine_is_not_used(
    runner: Runner, saved: Template, other: dict[str, Any]
) -> None:
    before = saved.memory.stat()
    runner.tool.configure([KERNEL], **other)
    prepared = prepared_run(runner)
    assert template.find(prepared.spec, runner.cache, prepared.image.label) is None
    result, output = runner.run("nproc; cat /proc/meminfo")
    assert result.outcome is Outcome.PASSED
    assert "warm, template made" in output
    assert len(runner.templates()) == 2
    assert saved.memory.stat() == before


def prepared_run(runner: Runner) -> preparation.Prepared:
    project = runner.project
    options = RunOptions(binaries=(runner.script("true"),))
    payload = SuiteWorkload(project, options).payload("x86_64", Observer())
    kernel = project.config.kernel(KERNEL)
    return preparation.prepare(project, kernel, payload, options, Observer())


def test_a_payload_that_needs_a_larger_disk_has_a_template_of_its_own(
    runner: Runner, saved: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_IMAGE_BYTES", disk._IMAGE_BYTES * 2)
    result, output = runner.run("cat /sys/block/vda/size")
    assert result.outcome is Outcome.PASSED, output
    assert "warm, template made" in output
    sectors = (runner.tool.root / result.logs[0]).read_text()
    assert int(sectors) * 512 == disk._IMAGE_BYTES
    assert len(runner.templates()) == 2
    assert saved.damage() == ""


# Damage


def truncate(path: Path) -> None:
    # With the old time, as after a copy that was cut short.
    stat = path.stat()
    os.truncate(path, stat.st_size // 2)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("memory", truncate, "its memory changed"),
        ("state", empty, "its state changed"),
        ("template.json", Path.unlink, "template.json: No such file"),
    ],
)
def test_a_damaged_template_is_discarded(
    runner: Runner, saved: Template, name: str, damage: Callable[[Path], None], words: str
) -> None:
    damage(saved.folder / name)
    result, output = runner.run("echo fine")
    assert result.outcome is Outcome.PASSED
    [line] = lines_about_templates(output)
    assert f"discarded: {words}" in line
    assert "warm, template made" in output
    [again] = runner.templates()
    assert again.damage() == ""
    assert list((runner.cache.root / "tmp").iterdir()) == []


def test_a_state_that_does_not_fit_its_memory_is_discarded(runner: Runner, saved: Template) -> None:
    # No check finds this damage: the processor resumes in memory that has no kernel.
    size = saved.memory.stat().st_size
    os.truncate(saved.memory, 0)
    os.truncate(saved.memory, size)
    saved.describe()
    result, output = runner.run("echo fine")
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold"), output
    [line] = lines_about_templates(output)
    assert "discarded:" in line
    assert "booting" in line
    assert runner.templates() == []


def test_a_state_that_qemu_rejects_is_discarded(runner: Runner, saved: Template) -> None:
    empty(saved.state)
    saved.describe()
    result, output = runner.run("echo fine")
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold"), output
    assert len(lines_about_templates(output)) == 1


def test_a_restored_guest_that_never_says_ready_is_given_up(
    runner: Runner, saved: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The guest runs, but is never told to go on.
    monkeypatch.setattr(machine, "resume_line", lambda *_: "true")
    monkeypatch.setattr(launch, "_RESTORE_SECONDS", 1.5)
    result, output = runner.run("echo fine")
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold"), output
    [line] = lines_about_templates(output)
    assert "discarded: no sign of life within 1.5 s" in line
    assert runner.templates() == []


def test_a_qemu_that_never_answers_is_given_up(
    runner: Runner, saved: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = tmp_path / "qemu"
    stops = "case $* in *-incoming*) kill -STOP $$ ;; esac"
    qemu.write_text(f'#!/bin/sh\n{stops}\nexec {X86_64.qemu} "$@"\n')
    qemu.chmod(0o755)
    asleep = dataclasses.replace(X86_64, qemu=str(qemu))
    monkeypatch.setitem(ARCHITECTURES, X86_64.name, asleep)
    monkeypatch.setattr(launch, "_RESTORE_SECONDS", 1.5)
    result, output = runner.run("echo fine")
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold"), output
    assert "discarded: no sign of life within 1.5 s" in lines_about_templates(output)[0]
    assert saved.damage() == ""  # the wrapper has a key of its own


# Killed


# Runs a script, and kills itself before or after a call of this method. With further words, only a
# call that has them as its first arguments counts.
KILLS_ITSELF = """
import inspect, os, pydoc, signal, sys
from pathlib import Path
from bpfmatrix.cli.run import run_chosen
from bpfmatrix.cli.run_choice import TESTS
from bpfmatrix.config.project import Project
from bpfmatrix.suite.options import RunOptions

kernel, script, when, owner, name, *words = sys.argv[1:]
real = getattr(pydoc.locate(owner), name)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


async def die_after(result):
    await result
    die()


def replacement(self, *args, **more):
    if list(args[: len(words)]) != words:
        return real(self, *args, **more)
    if when == "before":
        die()
    result = real(self, *args, **more)
    return die_after(result) if inspect.isawaitable(result) else die()


setattr(pydoc.locate(owner), name, replacement)
run_chosen(Project.load(), [kernel], TESTS, RunOptions(binaries=(Path(script),)))
"""

MACHINE, QMP = "bpfmatrix.vm.machine.Machine", "qemu.qmp.QMPClient"
TEMPLATE = "bpfmatrix.vm.template.Template"


def killed(runner: Runner, *moment: str) -> None:
    """Run a script, in a process that is killed at this moment; see KILLS_ITSELF."""
    words = (KERNEL, str(runner.script("sleep 20")), *moment)
    done = subprocess.run(
        [sys.executable, "-c", KILLS_ITSELF, *words],
        cwd=runner.tool.root,
        env={**plain_environment(), **runner.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout
    wait_until(lambda: not qemus_of(runner.tool), "QEMU ended")


@pytest.mark.parametrize(
    "moment",
    [
        ("before", MACHINE, "wait_until_ready"),
        ("after", MACHINE, "wait_until_ready"),
        ("before", QMP, "execute", "migrate"),
        ("after", QMP, "execute", "migrate"),
        ("after", MACHINE, "save"),
        ("before", TEMPLATE, "describe"),
        ("after", TEMPLATE, "describe"),
        ("before", MACHINE, "load"),
    ],
    ids=["boot", "booted", "save", "saving", "saved", "copied", "described", "done"],
)
def test_a_killed_process_leaves_a_complete_template_or_none(
    runner: Runner, moment: tuple[str, ...]
) -> None:
    killed(runner, *moment)
    # It is complete, or not there at all.
    is_done = moment == ("before", MACHINE, "load")
    assert [found.damage() for found in runner.templates()] == ([""] if is_done else [])
    with runner.cache.staging():  # which removes what the killed process left
        assert len(list((runner.cache.root / "tmp").iterdir())) == 1


def test_a_run_after_a_killed_one_makes_the_template(runner: Runner) -> None:
    killed(runner, "before", MACHINE, "wait_until_ready")
    result, output = runner.run("echo fine")
    assert result.outcome is Outcome.PASSED
    assert lines_about_templates(output) == []
    assert "warm, template made" in output
    assert list((runner.cache.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "moment",
    [
        ("before", MACHINE, "load"),
        ("after", QMP, "execute", "migrate-incoming"),
        ("before", MACHINE, "wait_until_ready"),
        ("after", MACHINE, "wait_until_ready"),
    ],
    ids=["start", "load", "resume", "ready"],
)
def test_a_process_that_is_killed_while_it_restores_leaves_the_template_intact(
    runner: Runner, saved: Template, moment: tuple[str, ...]
) -> None:
    content = checksums(saved)
    killed(runner, *moment)
    assert saved.damage() == ""
    assert checksums(saved) == content
    result, output = runner.run("echo fine")
    assert result.outcome is Outcome.PASSED
    assert "boot    warm template" in output


def checksums(found: Template) -> str:
    files = [found.memory, found.state, found.console]
    return subprocess.run(["sha256sum", *files], capture_output=True, check=True, text=True).stdout


# A full disk


def test_without_space_for_a_template_the_kernel_boots(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "_NEEDED_FREE_BYTES", 1 << 60)
    is_cold_with_one_line(runner, r"the cache's disk has only")


def test_the_kernel_boots_if_the_disk_fills_up_with_the_state(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = machine.Machine.save

    async def save_to_a_full_disk(self: machine.Machine, state: Path) -> None:
        state.symlink_to("/dev/full")
        await save(self, state)

    monkeypatch.setattr(machine.Machine, "save", save_to_a_full_disk)
    # QEMU 7.2 goes on with "No space left on device", QEMU 10.0 with "Input/output error".
    is_cold_with_one_line(runner, "QEMU could not save the machine: ")


def memory_of_making(cache: Cache) -> Path | None:
    """Return the memory of a template that is being made, once QEMU has created it."""
    return next(iter((cache.root / "tmp").glob("*/template/memory")), None)


def test_the_kernel_boots_if_the_disk_fills_up_with_the_memory(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The end of QEMU's monitor is an event: this limit must not be what ends the wait for it.
    monkeypatch.setattr(machine, "_LAST_WORDS_SECONDS", 1000.0)
    started = time.monotonic()

    # The kernel sends SIGBUS to a process that writes to a hole of a mapped file on a full disk.
    def hurt() -> None:
        wait_until(lambda: memory_of_making(runner.cache), "the template's guest boots")
        memory = str(memory_of_making(runner.cache)).encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if memory in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGBUS)

    thread = threading.Thread(target=hurt)
    thread.start()
    is_cold_with_one_line(runner, "QEMU died of signal 7")
    thread.join()
    assert time.monotonic() - started < 500


def is_cold_with_one_line(runner: Runner, words: str) -> None:
    result, output = runner.run("echo fine")
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold"), output
    [line] = lines_about_templates(output)
    assert "can't be made" in line
    assert words in line
    assert runner.templates() == []
    assert list((runner.cache.root / "tmp").iterdir()) == []


def test_the_kernel_boots_if_files_may_not_be_as_large_as_the_memory(runner: Runner) -> None:
    # As on a file system, or with a quota, that does not allow such a large file.
    script = runner.script("echo fine")
    process = runner.tool.start(
        *("run", "--kernel", KERNEL, "--binary", str(script)),
        env=runner.env,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 20, 100 << 20)),
    )
    done, result = runner.tool.finish(process), runner.tool.result(KERNEL)
    assert done.status == 0, done.output
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold")
    [line] = lines_about_templates(done.output)
    assert "can't be made" in line
    assert runner.templates() == []


# Several at once


def test_a_template_may_be_pruned_while_it_is_in_use(runner: Runner, saved: Template) -> None:
    # After the pruning, the guest reads memory that it had when it was saved: its root file system.
    # The command waits for a line from here, which a test can't.
    command = (
        "echo begun; read -r line; cat /bin/busybox /init /etc/fstab /etc/shrc | md5sum; uname -r"
    )
    process = runner.tool.start(
        *("shell", "--kernel", KERNEL, "--", command), env=runner.env, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    [removed] = template.prune(runner.cache)
    assert removed.size_bytes > 10 << 20
    assert runner.templates() == []
    assert list((runner.cache.root / "tmp").iterdir()) == []
    process.stdin.write("go on\n")
    process.stdin.flush()
    done = runner.tool.finish(process)
    assert done.status == 0, done.output
    [checksum, release] = done.output.splitlines()
    assert checksum.endswith("  -")
    assert release.startswith(f"{KERNEL}.")


def test_the_kernel_boots_if_its_template_is_pruned_before_it_is_restored(
    runner: Runner, saved: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = template.restored

    def pruned(*words: Any) -> object:
        template.prune(runner.cache)
        return restored(*words)

    monkeypatch.setattr(template, "restored", pruned)
    result, output = runner.run("echo fine")
    assert (result.outcome, result.start) == (Outcome.PASSED, "cold"), output
    assert len(lines_about_templates(output)) == 1


def opened(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    found = False
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found |= link.readlink() == path
    return found


def test_two_processes_that_need_the_same_template_make_one(runner: Runner, tmp_path: Path) -> None:
    other = ToolProject(tmp_path / "other")
    other.configure([KERNEL])
    both = [runner, dataclasses.replace(runner, tool=other)]
    prepared = prepared_run(runner)
    name = template._folder(runner.cache, prepared.spec, prepared.image.label).name
    # Both come to the lock before either can have it.
    with runner.cache.lock(f"template-{name}"):
        processes = [one.start("echo fine") for one in both]
        lock = runner.cache.root / f"locks/template-{name}"
        wait_until(lambda: all(opened(process.pid, lock) for process in processes), "both wait")
    done = [one.tool.finish(process) for one, process in zip(both, processes, strict=True)]
    assert [one.status for one in done] == [0, 0], done
    said = sorted(one.output.partition("boot    ")[2].partition(",")[0] for one in done)
    assert said == ["warm", "warm template"], done  # "warm, template made", "warm template, tcg"
    assert len(runner.templates()) == 1


def test_thirty_runs_in_a_row_have_their_own_outcomes(runner: Runner, saved: Template) -> None:
    for number in range(30):
        result, output = runner.run(f"echo {number}; exit $(({number} % 3))")
        assert result.outcome is (Outcome.FAILED if number % 3 else Outcome.PASSED), output
        assert "boot    warm template" in output
        assert (runner.tool.root / result.logs[0]).read_text() == f"{number}\n"
    assert saved.damage() == ""


def test_ten_guests_of_one_template_run_side_by_side(runner: Runner) -> None:
    """Ten ids of one kernel use one template; each guest has its own name and random bits."""
    folder = next((runner.cache.root / "kernels/x86_64").glob("5.10*"))
    ids = [f"k{number}" for number in range(10)]
    config = {
        "payload": {"ebpf": None, "go": None},
        "kernels": {id: {"source": {"directory": str(folder)}} for id in ids},
    }
    (runner.tool.root / "kernels.yaml").write_text(yaml.safe_dump(config))
    script = (
        "hostname; cat /proc/sys/kernel/random/uuid; case $(hostname) in *[13579]) exit 1; esac"
    )
    command = ("matrix", "--jobs", "10", "--binary", str(runner.script(script)))
    done = runner.tool.invoke(*command, env=runner.env)
    assert done.status == 1
    uuids = set()
    for number, id in enumerate(ids):
        result = runner.tool.result(id)
        assert result.outcome is (Outcome.FAILED if number % 2 else Outcome.PASSED), result
        assert result.start == "warm"
        host, uuid = (runner.tool.root / result.logs[0]).read_text().split()
        assert host == f"kernel-{id}"
        uuids.add(uuid)
    assert len(uuids) == 10
    assert len(runner.templates()) == 1
