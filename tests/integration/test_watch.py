"""`invoke watch` at a terminal: saves, errors of the compiler, and the ways to end it."""

import os
import shutil
import signal
from collections.abc import Iterator

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.payload import ebpf
from tests.terminal import Terminal
from tests.tool import REPOSITORY, ToolProject, plain_environment, qemus_of, wait_until

pytestmark = pytest.mark.integration

MAKEFILE = """\
x.o: x.txt
\t@grep -v SYNTAX x.txt >x.o || { echo 'x.txt:1: error: no such thing' >&2; exit 1; }
\t@echo 'x.o: x.txt' >x.d
.PHONY: clean
clean:
\trm -f x.o
"""
# The test in the guest prints the saved text, and fails if that is "bad".
SCRIPT = 'cat "$BPFMATRIX_OBJECTS/x.o"; grep -q bad "$BPFMATRIX_OBJECTS/x.o" && exit 3; true'
KERNEL = "5.10"


class Watch(Terminal):
    """`invoke watch` at a terminal. The project's Makefile copies x.txt into an object file."""

    def __init__(self, project: ToolProject) -> None:
        self.project = project
        self.results = project.root / ".bpfmatrix/results"
        super().__init__(
            project.command("watch", "--kernel", KERNEL),
            project.root,
            {**plain_environment(), "TERM": "xterm"},
            (24, 120),
        )

    def until_it_waits(self) -> None:
        """Wait until a restored machine waits for a save."""
        self.expect("waiting for a save in ebpf, reads", 120)

    def save(self, text: str) -> None:
        """Save x.txt as an editor does: replace it by another file."""
        new = self.project.root / "ebpf/x.txt.tmp"
        new.write_text(f"{text}\n")
        new.replace(self.project.root / "ebpf/x.txt")

    @property
    def log(self) -> str:
        """What the test in the guest printed last; empty while there is no log."""
        path = self.results / KERNEL / "reads.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def watch(project: ToolProject) -> Iterator[Watch]:
    (project.root / "ebpf").mkdir()
    (project.root / "ebpf/Makefile").write_text(MAKEFILE)
    (project.root / "ebpf/x.txt").write_text("first\n")
    project.script("reads", SCRIPT)
    project.configure([KERNEL], {"ebpf": "ebpf", "go": None, "binaries": ["reads"]})
    with Watch(project) as watch:
        yield watch


def test_each_save_is_followed_by_its_verdict(watch: Watch) -> None:
    watch.expect("passed", 120)
    watch.until_it_waits()
    assert watch.log == "first\n"

    for text, verdict in (("second", "passed"), ("bad", "failed"), ("third", "passed")):
        watch.save(text)
        watch.expect("saved   ebpf/x.txt")
        watch.expect(verdict)
        watch.expect("s from save to verdict")
        assert watch.log == f"{text}\n"
        assert watch.project.result(KERNEL).start == "warm"
        watch.until_it_waits()

    watch.interrupt()
    assert watch.end() == 0
    assert qemus_of(watch.project) == []
    assert "Traceback" not in watch.transcript


def test_an_error_of_the_compiler_is_shown_and_the_next_save_runs(watch: Watch) -> None:
    watch.until_it_waits()
    watch.save("SYNTAX")
    watch.expect("x.txt:1: error: no such thing")
    watch.save("fixed")
    watch.expect("passed")
    watch.until_it_waits()
    assert watch.log == "fixed\n"
    watch.save("again")
    watch.expect("s from save to verdict")
    assert watch.log == "again\n"


def test_a_save_during_the_first_start_is_not_lost(watch: Watch) -> None:
    wait_until(lambda: qemus_of(watch.project), "the first machine starts")
    watch.save("early")
    # It depends on the moment whether the first run has this text, or the second one.
    wait_until(lambda: watch.log == "early\n", "a run has the saved text")


def test_a_save_while_the_tests_run_is_not_lost(watch: Watch) -> None:
    watch.until_it_waits()
    watch.project.script("reads", f"echo begun; sleep 3; {SCRIPT}")
    watch.expect("saved   reads")
    wait_until(lambda: watch.log == "begun\n", "the test runs")
    # The test can't end before the save.
    [qemu] = qemus_of(watch.project)
    os.kill(qemu, signal.SIGSTOP)
    assert not (watch.results / f"{KERNEL}.json").exists(), "the run ended before it was stopped"
    watch.save("meanwhile")
    os.kill(qemu, signal.SIGCONT)
    watch.expect("s from save to verdict")
    assert watch.log == "begun\nfirst\n"
    watch.expect("saved   ebpf/x.txt")
    watch.expect("s from save to verdict")
    assert watch.log == "begun\nmeanwhile\n"


def test_no_qemu_outlives_a_watch_that_is_killed(watch: Watch) -> None:
    watch.until_it_waits()
    assert len(qemus_of(watch.project)) == 1
    watch.process.kill()
    wait_until(lambda: not qemus_of(watch.project), "QEMU ended")


def test_ctrl_c_ends_a_watch_while_a_test_runs(watch: Watch) -> None:
    watch.until_it_waits()
    watch.project.script("reads", "echo begun; sleep 600")
    watch.expect("saved   reads")
    wait_until(lambda: watch.log == "begun\n", "the test runs")
    watch.interrupt()
    assert watch.end() == 0
    assert qemus_of(watch.project) == []
    assert "Traceback" not in watch.transcript


def test_a_kernel_that_does_not_boot_is_one_sentence_and_the_next_save_tries_again(
    project: ToolProject,
) -> None:
    project.script("reads", "true")
    project.configure(
        [KERNEL],
        {"ebpf": None, "go": None, "binaries": ["reads"]},
        kernel_args=["rdinit=/nonexistent"],
    )
    message = f"{KERNEL}: the guest did not become ready: VFS: Unable to mount root fs"
    with Watch(project) as watch:
        watch.expect(message, 120)
        project.script("reads", "true # saved")
        watch.expect(message, 120)
        watch.interrupt()
        assert watch.end() == 0
    assert "Traceback" not in watch.transcript


def test_an_object_that_is_built_again_is_loaded_again(project: ToolProject) -> None:
    built = {path.name: path for path in ebpf.objects(Project.load(REPOSITORY)).files}
    folder = project.root / "build"
    folder.mkdir()
    shutil.copy(built["ringbuf_events.bpf.o"], folder / "x.bpf.o")
    project.configure([KERNEL], {})
    with (project.root / "kernels.yaml").open("a") as file:
        file.write('verify: {objects: [{path: "build/*.bpf.o"}]}\n')
    with Watch(project) as watch:
        watch.expect("1 of 1 program loaded", 120)
        watch.expect("waiting for a save in build/*.bpf.o", 120)
        new = folder / "x.bpf.o.tmp"
        shutil.copy(built["sched_monitor.bpf.o"], new)
        new.replace(folder / "x.bpf.o")
        watch.expect("saved   build/x.bpf.o")
        watch.expect("3 of 3 programs loaded", 120)
        watch.expect("s from save to verdict")
