"""`invoke watch` as a real process: saves, what the compiler says, and its end."""

import os
import queue
import re
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.tool import ToolProject, qemus_of, wait_until

pytestmark = pytest.mark.integration

MAKEFILE = """\
x.o: x.txt
\t@grep -v SYNTAX x.txt >x.o || { echo 'x.txt:1: error: no such thing' >&2; exit 1; }
\t@echo 'x.o: x.txt' >x.d
.PHONY: clean
clean:
\trm -f x.o
"""
# What is saved is data of the guest's test, which prints it and fails if it says so.
SCRIPT = 'cat "$BPFMATRIX_OBJECTS/x.o"; grep -q bad "$BPFMATRIX_OBJECTS/x.o" && exit 3; true'


class Watch:
    """A process that watches, and what it has printed."""

    def __init__(self, project: ToolProject) -> None:
        self.project = project
        self.process = project.start("watch", "--kernel", "5.10", start_new_session=True)
        self.lines: list[str] = []
        self._ended: set[int] = set()
        self._queue: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)

    def until(self, pattern: str, seconds: float = 60.0) -> str:
        """Wait for a line; returns it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"never printed {pattern!r}, but:\n{''.join(self.lines)}"
                ) from None
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    def waiting(self) -> None:
        """Wait until a machine is restored, and does nothing but wait."""
        pids = self._ended

        def idle() -> bool:
            new = set(qemus_of(self.project)) - pids
            if not new:
                return False
            self._ended = pids | new
            return True

        wait_until(idle, "another machine waits")
        time.sleep(0.5)  # it is being restored, which nothing tells of

    def save(self, text: str) -> None:
        """Save as an editor does: another file, put in the place of the first."""
        new = self.project.root / "ebpf/x.txt.tmp"
        new.write_text(text)
        new.replace(self.project.root / "ebpf/x.txt")

    def end(self, number: int) -> int:
        os.killpg(self.process.pid, number)
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()


@pytest.fixture
def watch(project: ToolProject) -> Iterator[Watch]:
    (project.root / "ebpf").mkdir()
    (project.root / "ebpf/Makefile").write_text(MAKEFILE)
    (project.root / "ebpf/x.txt").write_text("first\n")
    project.script("reads", SCRIPT)
    project.configure(["5.10"], {"ebpf": "ebpf", "go": None, "binaries": ["reads"]})
    made = Watch(project)
    yield made
    if made.process.poll() is None:
        os.killpg(made.process.pid, signal.SIGKILL)
        made.process.wait()


def log(project: ToolProject) -> str:
    return (project.root / ".bpfmatrix/results/5.10/reads.log").read_text()


def test_from_save_to_verdict(watch: Watch) -> None:
    watch.until(r"passed")
    assert log(watch.project) == "first\n"

    for text, verdict in (("second", "passed"), ("bad", "failed"), ("third", "passed")):
        watch.waiting()
        watch.save(f"{text}\n")
        watch.until("saved   ebpf/x.txt")
        watch.until(verdict)
        watch.until(r"s from save to verdict")
        assert log(watch.project) == f"{text}\n"
        assert watch.project.result("5.10").start == "warm"

    watch.waiting()
    assert watch.end(signal.SIGINT) in (0, 130)
    assert qemus_of(watch.project) == []
    assert "Traceback" not in "".join(watch.lines)


def test_what_does_not_compile_is_said_and_the_next_save_mends_it(watch: Watch) -> None:
    watch.until(r"passed")
    watch.waiting()
    watch.save("SYNTAX\n")
    watch.until("x.txt:1: error: no such thing")
    time.sleep(1)
    watch.save("mended\n")
    watch.until("passed")
    assert log(watch.project) == "mended\n"
    watch.waiting()
    watch.save("again\n")
    watch.until("passed")
    assert log(watch.project) == "again\n"


def test_a_save_while_the_tests_run_is_not_lost(watch: Watch) -> None:
    watch.save("early\n")  # while it starts
    watch.until("passed")
    if log(watch.project) == "first\n":
        watch.until("passed")
    assert log(watch.project) == "early\n"
    watch.project.script("reads", f"sleep 1; {SCRIPT}")
    watch.until("saved   reads")
    time.sleep(0.5)
    watch.save("meanwhile\n")
    watch.until("passed")
    watch.until("saved   ebpf/x.txt")
    watch.until("passed")
    assert log(watch.project) == "meanwhile\n"


def test_no_qemu_outlives_a_watch_that_is_killed(watch: Watch) -> None:
    watch.until(r"passed")
    watch.waiting()
    assert watch.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not qemus_of(watch.project), "QEMU ended", seconds=3)


def test_ctrl_c_while_a_test_runs(watch: Watch) -> None:
    watch.until(r"passed")
    watch.waiting()
    # As a linker does.
    (watch.project.root / "reads").unlink()
    watch.project.script("reads", "echo begun; sleep 60")
    path = watch.project.root / ".bpfmatrix/results/5.10/reads.log"
    watch.until("saved   reads")
    wait_until(lambda: path.exists() and "begun" in path.read_text(), "the test runs")
    started = time.monotonic()
    assert watch.end(signal.SIGINT) in (0, 130)
    assert time.monotonic() - started < 10
    assert qemus_of(watch.project) == []
    assert "Traceback" not in "".join(watch.lines)
