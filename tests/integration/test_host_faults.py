"""Faults of the host while the tool runs on a real kernel: a sentence, and never a traceback."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.store import Store
from bpfmatrix.results.outcome import Outcome
from tests.goproject import GoModule
from tests.tool import Finished, ToolProject, plain_environment, qemus_of, wait_until

pytestmark = pytest.mark.integration

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
# Root obeys the permissions of files without these.
WITHOUT_POWERS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")


def shell(project: ToolProject, line: str, *words: str, **env: str) -> Finished:
    """Run a line of bash, in which "$@" is the command of these words."""
    done = subprocess.run(
        ["bash", "-c", line, "bash", *words],
        cwd=project.root,
        env={**plain_environment(), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    return Finished(done.returncode, done.stdout, 0)


def commands(project: ToolProject) -> dict[str, Sequence[str]]:
    """The command of a run of the test `x`, by each front end."""
    project.script("x", "echo hello")
    return {
        "invoke": project.command("run", "--kernel", "6.1", "--binary", "x"),
        "nox": [sys.executable, "-m", "nox", "-s", "kernel-6.1", "--", "--binary", "x"],
    }


def one_sentence(done: Finished, text: str, status: int = 1) -> None:
    assert done.status == status, done.output
    assert "Traceback" not in done.output, done.output
    assert text in done.output, done.output


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[None]:
    """Mount an empty file system of this size there."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Write zeros into a file until its disk is full."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def copy_kernel(project: ToolProject, cache: Path) -> None:
    """Copy the kernel 6.1 of the user's cache into another cache, without links to it."""
    users = Cache.default().root
    kernel = Project.load(project.root).config.kernel("6.1")
    image = Store(Cache(users)).resolved(kernel)
    assert image is not None
    for folder in (image.folder, users / "refs" / kernel.arch):
        shutil.copytree(folder, cache / folder.relative_to(users), symlinks=True)
    shutil.copy(users / "kvm-probe.json", cache)


@pytest.mark.parametrize("program", ["invoke", "nox"])
@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ('"$@" >/dev/full', 1, "error: standard output can't be written: No space left on device"),
        ('"$@" | head -1; exit ${PIPESTATUS[0]}', 141, ""),
    ],
)
def test_a_run_whose_output_goes_nowhere_has_its_result(
    project: ToolProject, program: str, line: str, status: int, text: str
) -> None:
    one_sentence(shell(project, line, *commands(project)[program]), text, status)
    assert project.result().outcome is Outcome.PASSED
    assert qemus_of(project) == []


def test_a_run_without_standard_output_has_its_result(project: ToolProject) -> None:
    # nox itself fails then, before it reads the noxfile.
    done = shell(project, '"$@" >&-', *commands(project)["invoke"])
    one_sentence(done, "error: standard output can't be written: Bad file descriptor")
    assert project.result().outcome is Outcome.PASSED
    one_sentence(shell(project, '"$@" >&- 2>&-', *commands(project)["invoke"]), "")


@needs_root
@pytest.mark.parametrize("program", ["invoke", "nox"])
@pytest.mark.parametrize("kib", [8, 48])
def test_a_full_disk_below_the_project_is_one_sentence(
    project: ToolProject, own_cache: Path, program: str, kib: int
) -> None:
    command, env = commands(project)[program], {"BPFMATRIX_CACHE": str(own_cache)}
    with small_disk(project.root / ".bpfmatrix", kib):
        done = shell(project, '"$@"', *command, **env)
        one_sentence(done, "results can't be written: No space left on device")
        assert project.result().outcome is Outcome.ERROR  # for which there is room
    # No template was made whose console could not be written.
    assert not list(own_cache.glob("templates/*"))
    assert qemus_of(project) == []


@needs_root
def test_a_disk_that_a_test_fills_is_one_sentence(project: ToolProject, own_cache: Path) -> None:
    project.script("flood", "head -c 1000000 /dev/zero")
    env = {"BPFMATRIX_CACHE": str(own_cache)}
    with small_disk(project.root / ".bpfmatrix", 300):
        words = ("run", "--kernel", "6.1", "--binary", "flood")
        done = project.invoke(*words, env=env)
        one_sentence(done, "flood.log can't be written: No space left on device")
    assert qemus_of(project) == []


@needs_root
def test_a_full_disk_of_the_cache_is_one_sentence(project: ToolProject, tmp_path: Path) -> None:
    cache = tmp_path / "small"
    with small_disk(cache, 1 << 20):
        copy_kernel(project, cache)
        used = sum(path.stat().st_blocks * 512 for path in cache.rglob("*")) >> 10
        for spare_kib in (8, 300):
            size = f"size={used + spare_kib}k"
            subprocess.run(["mount", "-o", f"remount,{size}", cache], check=True)
            env = {"BPFMATRIX_CACHE": str(cache)}
            for command in commands(project).values():
                done = shell(project, '"$@"', *command, **env)
                one_sentence(done, ": No space left on device")
                assert project.result().outcome is Outcome.ERROR
            fetch = project.command("kernels.update", "--kernel", "6.1")
            one_sentence(shell(project, '"$@"', *fetch, **env), "no space was left in")
        assert list((cache / "tmp").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives the cache to another user")
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_cache_of_another_user_is_one_sentence(
    project: ToolProject, tmp_path: Path, mode: int
) -> None:
    cache = tmp_path / "others"
    cache.mkdir()
    copy_kernel(project, cache)
    cache.chmod(mode)
    os.chown(cache, 65534, 65534)
    env = {"BPFMATRIX_CACHE": str(cache)}
    more = [
        project.command(*words.split())
        for words in ("kernels.update --kernel 6.1", "kernels.prune")
    ]
    for command in (*commands(project).values(), *more):
        done = shell(project, '"$@"', *WITHOUT_POWERS, *command, **env)
        one_sentence(done, "Permission denied")
    doctor = project.command("doctor")
    done = shell(project, '"$@"', *WITHOUT_POWERS, *doctor, **env)
    one_sentence(done, f"the cache {cache} can't be written")


def test_a_limit_on_the_sizes_of_files_is_one_sentence(
    project: ToolProject, own_cache: Path
) -> None:
    env = {"BPFMATRIX_CACHE": str(own_cache)}
    command = commands(project)["invoke"]
    text = "6.1/console.log would be larger than this user's files may be (8192 bytes)"
    one_sentence(shell(project, 'ulimit -f 8; "$@"', *command, **env), text)
    assert project.result().outcome is Outcome.ERROR
    # A payload's image is larger.
    one_sentence(shell(project, 'ulimit -f 200; "$@"', *command, **env), "(ulimit -f)")
    assert project.result().outcome is Outcome.ERROR
    one_sentence(shell(project, 'ulimit -f 0; "$@"', *command, **env), "(0 bytes)")


@pytest.mark.parametrize("program", ["invoke", "nox"])
def test_a_limit_on_open_files_is_one_sentence(project: ToolProject, program: str) -> None:
    command = commands(project)[program]
    assert shell(project, '"$@"', *command).status == 0
    for limit in (20, 16) if program == "nox" else (20, 8):  # nox itself needs some
        done = shell(project, f'ulimit -n {limit}; "$@"', *command)
        one_sentence(done, f"this process may not have more than {limit} open files")
        assert qemus_of(project) == []


@needs_root
def test_ctrl_c_is_130_even_if_the_result_can_not_be_written(project: ToolProject) -> None:
    project.script("slow", "echo begun; sleep 1000")
    with small_disk(project.root / ".bpfmatrix", 200):
        process = project.start("run", "--kernel", "6.1", "--binary", "slow")
        log = project.root / ".bpfmatrix/results/6.1/slow.log"
        wait_until(lambda: log.exists() and log.stat().st_size, "the test runs")
        with pytest.raises(OSError, match="No space left"):
            fill(project.root / ".bpfmatrix/filler")
        process.send_signal(signal.SIGINT)
        done = project.finish(process)
    assert done.status == 130, done.output
    assert "Traceback" not in done.output
    assert qemus_of(project) == []


def test_a_result_of_an_earlier_run_is_gone_when_the_next_can_not_begin(
    project: ToolProject, own_cache: Path
) -> None:
    env = {"BPFMATRIX_CACHE": str(own_cache)}
    words = ("run", "--kernel", "6.1", "--binary", project.script("x", "true"))
    assert project.invoke(*words, env=env).status == 0
    assert project.result().outcome is Outcome.PASSED
    # The folder of initramfs archives is a file now.
    shutil.rmtree(own_cache / "initramfs")
    (own_cache / "initramfs").touch()
    done = project.invoke(*words, env=env)
    one_sentence(done, "initramfs is in the way")
    assert project.result().outcome is Outcome.ERROR
    assert "initramfs is in the way" in project.result().reason
    assert "error" in project.invoke("report").output
    # The tests don't build.
    (own_cache / "initramfs").unlink()
    assert project.invoke(*words, env=env).status == 0
    done = project.invoke("run", "--kernel", "6.1", "--binary", "kernels.yaml", env=env)
    one_sentence(done, "kernels.yaml is neither an ELF executable nor a script")
    assert project.result().outcome is Outcome.ERROR
    names = {path.name for path in (project.root / ".bpfmatrix/results").iterdir()}
    assert names == {"6.1", "6.1.json"}


def test_a_verification_that_can_not_begin_has_no_earlier_result(project: ToolProject) -> None:
    old = project.root / ".bpfmatrix/verify/6.1.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"schema": 1, "outcome": "passed"}')
    done = project.invoke("verify", "--kernel", "6.1", "none.bpf.o")
    one_sentence(done, "none.bpf.o: no such file", 2)
    found = json.loads(old.read_text())
    assert (found["outcome"], "none.bpf.o" in found["reason"]) == ("error", True)


@pytest.mark.parametrize(
    "name", ["a b", "it's", 'say "x"', "-x", "a" * 251, "$(id)", "größe", "%s", "#x", "a;b", "*"]
)
def test_a_test_with_any_printable_name_runs(project: ToolProject, name: str) -> None:
    script = project.root / project.script("x", 'echo "I am $0"; exit 3')
    script.rename(project.root / name)
    done, run = project.run(f"./{name}")
    assert done.status == 1
    [test] = run.tests
    assert (test.name, test.reason) == (name, "exit status 3")
    assert test.output == f"I am /payload/{name}\n"
    assert (project.root / run.logs[0]).read_text() == test.output


def test_a_test_that_would_write_the_console_is_refused_before_the_boot(
    project: ToolProject,
) -> None:
    done, run = project.run(project.script("console", "true"))
    one_sentence(done, "console can't be a test: its output would be in console.log")
    assert "boot" not in done.output
    assert run.outcome is Outcome.ERROR


def test_what_a_test_prints_is_no_command(project: ToolProject) -> None:
    said = r"\033[31mred\033[2J\n::error::boo\n##vso[task.complete]\n\033]0;title\007"
    project.script("loud", rf"printf '{said}'; printf '{said}' >/dev/kmsg; exit 1")
    env = {"GITHUB_ACTIONS": "true"}
    done = project.invoke("run", "--kernel", "6.1", "--binary", "loud", env=env)
    log, console = (project.invoke("logs", "6.1", *more) for more in (["--test", "loud"], []))
    report = project.invoke("report", "--format", "junit")
    for shown in (done, log, console, report):
        assert "\x1b" not in shown.output
        assert "\n::error::boo" not in shown.output
        assert "##vso[" not in shown.output
    for shown in (done, log, report):
        assert ": :error::boo" in shown.output
        assert "# #vso[task.complete]" in shown.output
    # The log itself has the bytes, and so has --raw.
    raw = project.invoke("logs", "6.1", "--test", "loud", "--raw")
    assert raw.output == "\x1b[31mred\x1b[2J\n::error::boo\n##vso[task.complete]\n\x1b]0;title\x07"
    words = ("run", "--kernel", "6.1", "--binary", "loud", "--raw")
    assert "\x1b[31mred" in project.invoke(*words).output


def test_a_panic_of_a_go_subtest_is_its_reason(project: ToolProject, go_module: GoModule) -> None:
    project.configure(payload={"ebpf": None, "go": None, "env": {"SAMPLE": "panic"}})
    _, run = project.run(str(go_module.binary()), options=["--run", "TestPanics"])
    assert {test.name: test.reason for test in run.tests} == {
        "TestPanics": "panic: on purpose (sample_test.go:60)",
        "TestPanics/inner": "panic: on purpose (sample_test.go:60)",
    }
    assert "panic: on purpose" in run.reason
