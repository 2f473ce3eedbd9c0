"""The cases. Each measures once and returns named figures, in seconds or bytes."""

import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import go_packages, guests, repository
from benchmarks.bench_project import REPOSITORY, BenchProject
from bpfmatrix import kernels
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.suite.options import RunOptions

BARE = ("5.10", "6.1", "6.12", "7.3")
ONE = "6.1"
GO_TEST = "TestSchedMonitor"
VNG_WORDS = ("--disable-kvm", "--memory", "1G", "--", "uname", "-r")
_VNG_LIMIT_SECONDS = 120
_WATCH_LIMIT_SECONDS = 300
VNG_FAILED = "virtme-ng, which failed"
LARGE_BYTES = 12 << 20
MACHINES = 10
PLAIN_GO = f"go test, {go_packages.PACKAGES} packages"
EXEC_GO = f"go test -exec, {go_packages.PACKAGES} packages"
WITH_FILES = f"warm, {repository.FILES} files of the repository"
WITHOUT_FILES = "warm, no files of the repository"

Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    name: str
    measure: Callable[[], Figures]
    most_rounds: int = 1000
    """The limit of rounds, for cases that take long."""


def _timed(bench: BenchProject, name: str, module: str, *words: str, kernel: str = "") -> Case:
    """Return a case that times a command; with `kernel`, also the machine's share of the time."""

    def measure() -> Figures:
        found = {name: bench.seconds(module, *words)}
        if kernel:
            machine = float(bench.result(kernel)["seconds"])
            found |= {f"{name}: machine": machine, f"{name}: tool": found[name] - machine}
        return found

    return Case(name, measure)


def cases(bench: BenchProject) -> Iterator[Case]:
    """Yield all cases. Builds, fetches and templates are made before the measurements."""
    project = Project.load(bench.root)
    ok = bench.script("ok.sh", "true")
    yield from _boots(bench, project, ok)
    yield Case("parts", lambda: _parts(bench, ok))
    yield from _test_binaries(bench, project)
    yield from _matrices(bench, project)
    yield from _foreign_runner(bench)
    yield from _repository(bench)
    yield Case("save to verdict", lambda: {"save to verdict": _save_to_verdict(bench)})
    sleeps = bench.root / bench.script("sleeps.sh", "sleep 4")
    for count in (1, MACHINES):
        yield Case(f"memory of {count}", _memory(project, count, sleeps))
    yield _timed(bench, "nox -l", "nox", "-l")
    yield _timed(bench, "invoke -l", "invoke", "-l")
    if vng := _virtme_ng():
        # virtme-ng needs 9p, which the cloud package lacks.
        source = {"apt": {"suite": "bookworm-security", "package": "linux-image-amd64"}}
        config = Config.model_validate({"kernels": {ONE: {"source": source}}})
        image, _ = kernels.provide(config.kernel(ONE), project.cache)
        yield Case("virtme-ng", lambda: _virtme_ng_run(vng, image.vmlinuz), most_rounds=3)


def _boots(bench: BenchProject, project: Project, script: str) -> Iterator[Case]:
    """Yield the cases of one machine: without bpfmatrix, cold and warm."""

    def bare(kernel: str, elf: bool) -> Case:
        name = f"bare {'ELF' if elf else 'bzImage'} {kernel}"
        return Case(
            name, lambda: {name: guests.bare_boot_seconds(project, kernel, elf, bench.root)}
        )

    for kernel in BARE:
        yield bare(kernel, elf=False)
        yield bare(kernel, elf=True)
        words = ("run", "--binary", script, "--kernel", kernel)
        yield _timed(bench, f"cold {kernel}", "invoke", *words, "--cold", kernel=kernel)
        yield _timed(bench, f"warm {kernel}", "invoke", *words, kernel=kernel)


def _test_binaries(bench: BenchProject, project: Project) -> Iterator[Case]:
    """Yield the cases of Go test binaries, small and large."""
    session = ("-s", f"kernel-{ONE}", "--", "--run", GO_TEST)
    yield _timed(bench, "Go test warm", "nox", *session, kernel=ONE)
    yield _timed(bench, "Go test cold", "nox", *session, "--cold", kernel=ONE)
    one_test = f"{GO_TEST}/exec_exit"
    bench.seconds("invoke", "test-binaries")
    large = bench.padded_test_binary(LARGE_BYTES)
    words = ("run", "--kernel", ONE, "--binary", large, "--run", one_test)
    yield _timed(bench, "large warm", "invoke", *words, kernel=ONE)
    options = RunOptions(run=one_test, binaries=(bench.root / large,))
    yield Case(
        "large in a running guest",
        lambda: {"large in a running guest": guests.tests_seconds(project, ONE, options)},
    )


def _foreign_runner(bench: BenchProject) -> Iterator[Case]:
    """Yield the cases of `go test` on the host, and with `bpfmatrix exec`."""
    module = go_packages.make_module(bench)
    yield Case(PLAIN_GO, lambda: {PLAIN_GO: go_packages.seconds(module)})
    yield Case(EXEC_GO, lambda: {EXEC_GO: go_packages.seconds(module, "--kernel", ONE)})


def _repository(bench: BenchProject) -> Iterator[Case]:
    """Yield the cases of a warm run with the files of a repository, and without."""
    having, lacking = repository.make_projects(bench, ONE)
    for name, project in ((WITH_FILES, having), (WITHOUT_FILES, lacking)):
        project.seconds("invoke", "run", "--kernel", ONE)
        yield _timed(project, name, "invoke", "run", "--kernel", ONE)


def _matrices(bench: BenchProject, project: Project) -> Iterator[Case]:
    """Yield the cases of all kernels of the matrix."""

    def own_time() -> float:
        ids = project.config.matrix_ids
        return sum(guests.tests_seconds(project, kernel, RunOptions()) for kernel in ids)

    def second_push() -> float:
        # The first run tests whatever changed since; only the second one is measured.
        bench.seconds("nox", "-s", "pre-push")
        return bench.seconds("nox", "-s", "pre-push")

    yield Case("the tests' own time", lambda: {"the tests' own time": own_time()})
    one_by_one = ("-s", "matrix", "--", "--jobs", "1")
    yield _timed(bench, "matrix, one after another", "nox", *one_by_one)
    yield _timed(bench, "matrix, side by side", "nox", "-s", "matrix")
    unchanged = "pre-push, nothing changed"
    yield Case(unchanged, lambda: {unchanged: second_push()})


def _memory(project: Project, count: int, script: Path) -> Callable[[], Figures]:
    name = f"memory of {count} (bytes)"
    return lambda: {name: guests.memory_bytes(project, ONE, count, script)}


def _parts(bench: BenchProject, binary: str) -> Figures:
    places = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.guests", str(time.time()), ONE, binary],
        cwd=bench.root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return {f"part: {name}": seconds for name, seconds in json.loads(done.stdout).items()}


def _save_to_verdict(bench: BenchProject) -> float:
    """Change a line of one eBPF program while `invoke watch` waits; wait for the verdict."""
    source = bench.root / "ebpf/sched_monitor.bpf.c"
    before = source.read_text()
    # Only on a terminal does `invoke watch` show that the next machine is restored, and waits.
    ours, its = pty.openpty()
    process = bench.start(("watch", "--kernel", ONE, "--run", GO_TEST), its)
    os.close(its)
    output = _Output(ours)
    try:
        output.until("passed")
        output.until("waiting for a save")
        # This changes each line number, and so the object.
        source.write_text(f"// Saved at {time.time()}.\n{before}")
        saved = time.monotonic()
        output.until("passed")
        return time.monotonic() - saved
    finally:
        os.killpg(process.pid, signal.SIGINT)
        if not output.until_end(20):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
        source.write_text(before)


class _Output:
    """What a command prints on a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._unread = ""

    def until(self, word: str) -> None:
        """Read up to a word; SystemExit if it does not come."""
        deadline = time.monotonic() + _WATCH_LIMIT_SECONDS
        while word not in self._unread:
            if not (text := self._read(deadline)):
                raise SystemExit(f"invoke watch never printed {word!r}:\n{self._unread}")
            self._unread += text
        self._unread = self._unread.partition(word)[2]

    def until_end(self, seconds: float) -> bool:
        """Read until the command closes its terminal; return False if it takes longer."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return time.monotonic() < deadline

    def _read(self, deadline: float) -> str:
        """Return some output; empty at the deadline, or if the command closed its terminal."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._terminal], [], [], left)[0]:
            return ""
        try:
            return os.read(self._terminal, 1 << 16).decode(errors="replace")
        except OSError:  # EIO
            return ""


def _virtme_ng() -> str | None:
    beside = str(Path(sys.executable).parent)
    return shutil.which("vng", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))


def _virtme_ng_run(vng: str, vmlinuz: Path) -> Figures:
    # vng calls a second program by name, from PATH. It needs a terminal, which `script` provides.
    path = os.pathsep.join((str(Path(vng).parent), os.environ.get("PATH", "")))
    words = [vng, "--verbose", "-r", str(vmlinuz), *VNG_WORDS]
    started = time.monotonic()
    # subprocess's own limit would leave QEMU running.
    limited = ["timeout", "--foreground", str(_VNG_LIMIT_SECONDS), *words]
    done = subprocess.run(
        ["script", "-qec", shlex.join(limited), "/dev/null"],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    seconds = time.monotonic() - started
    # If the guest has no udevd, vng exits with 255 even if all went well.
    fine = done.returncode == 0 or b"script exited with code 0" in done.stdout
    return {"virtme-ng" if fine else VNG_FAILED: seconds}
