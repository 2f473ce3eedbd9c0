"""`nox -s pre-push`: runs that passed before are not repeated while nothing changed."""

import subprocess
import sys
import time

import pytest
import yaml

from bpfmatrix.results.outcome import Outcome
from tests.tool import Finished, ToolProject, plain_environment

pytestmark = pytest.mark.integration


def nox(project: ToolProject, *words: str) -> Finished:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "nox", *words],
        cwd=project.root,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return Finished(done.returncode, done.stdout, time.monotonic() - started)


def starts_a_machine(project: ToolProject, *words: str) -> bool:
    """Run pre-push, which has to pass; return whether it started a machine."""
    done = nox(project, "-s", "pre-push", *words)
    assert done.status == 0, done.output
    assert project.result().outcome is Outcome.PASSED
    assert ("(cached" in done.output) is ("boot " not in done.output), done.output
    assert project.result().cached is ("(cached" in done.output)
    return "boot " in done.output


def test_pre_push_runs_only_what_changed(project: ToolProject) -> None:
    project.script("fine", "true")
    project.configure(payload={"ebpf": "ebpf", "go": None, "binaries": ["fine"]})
    folder = project.root / "ebpf"
    folder.mkdir()
    # Whatever the Makefile leaves as *.o is an object file; the guest's test does not load it.
    (folder / "x.txt").write_text("one")
    (folder / "Makefile").write_text(
        "x.o: x.txt\n\tcp x.txt x.o\n\techo 'x.o: x.txt' >x.d\n.PHONY: clean\nclean:\n\trm -f x.o\n"
    )
    assert starts_a_machine(project)
    assert not starts_a_machine(project)
    assert not starts_a_machine(project)
    assert starts_a_machine(project, "--", "--fresh")
    assert not starts_a_machine(project)
    # `nox -s kernel-6.1` always runs.
    assert nox(project, "-s", "kernel-6.1").output.count("boot ") == 1

    (folder / "x.txt").write_text("two")
    assert starts_a_machine(project)
    assert starts_a_machine(project, "--", "--", "-argument")
    assert starts_a_machine(project, "--", "--timeout", "30s")
    project.script("fine", "true # changed")
    assert starts_a_machine(project)
    declared = yaml.safe_load((project.root / "kernels.yaml").read_text())
    declared["payload"]["env"] = {"A": "b"}
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(declared))
    assert starts_a_machine(project)
    assert not starts_a_machine(project)


def test_objects_in_git_that_the_build_changes_are_named(project: ToolProject) -> None:
    project.script("fine", "true")
    project.configure(payload={"ebpf": "ebpf", "go": None, "binaries": ["fine"]})
    folder = project.root / "ebpf"
    folder.mkdir()
    (folder / "Makefile").write_text(
        ".PHONY: all clean\nall:\n\techo new >x_bpfel.o\nclean:\n\trm -f x_bpfel.o\n"
    )
    (folder / "x_bpfel.o").write_text("old\n")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for words in (["init", "-q"], ["add", "ebpf"], ["commit", "-qm", "one"]):
        subprocess.run(["git", *author, *words], cwd=project.root, check=True)
    done = nox(project, "-s", "pre-push", "--", "--only", "tests")
    assert done.status == 1, done.output
    assert "ebpf/x_bpfel.o differs from the commit" in done.output
    assert "git add ebpf/x_bpfel.o" in done.output
    assert project.result().outcome is Outcome.PASSED
    subprocess.run(["git", *author, "commit", "-qam", "two"], cwd=project.root, check=True)
    assert project.invoke("pre-push", "--only", "tests").status == 0


def test_a_failure_is_never_cached(project: ToolProject) -> None:
    project.script("bad", "exit 3")
    project.configure(payload={"ebpf": None, "go": None, "binaries": ["bad"]})
    for _ in range(2):
        done = nox(project, "-s", "pre-push")
        assert done.status == 1
        assert project.result().outcome is Outcome.FAILED
        assert not project.result().cached
        assert "exit status 3" in done.output
