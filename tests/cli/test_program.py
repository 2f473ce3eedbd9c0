"""The program `bpfmatrix` in a process of its own: what it says of itself, and what it refuses."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tool import Finished, ToolProject, plain_environment, wait_until

PROGRAM = Path(sys.executable).with_name("bpfmatrix")


def bpfmatrix(folder: Path, *words: str, module: bool = False) -> Finished:
    command = [sys.executable, "-m", "bpfmatrix"] if module else [str(PROGRAM)]
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, *words],
        cwd=folder,
        env={**plain_environment(), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return Finished(done.returncode, done.stdout, 0)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
@pytest.mark.parametrize("module", [False, True])
def test_it_says_what_it_is_and_what_to_type_first(
    tmp_path: Path, words: tuple[str, ...], module: bool
) -> None:
    done = bpfmatrix(tmp_path, *words, module=module)
    assert done.status == 0
    assert done.output.startswith("bpfmatrix loads and tests eBPF on many kernels")
    begin = done.output.partition("Begin with:")[2].partition("Commands:")[0]
    assert "bpfmatrix run 6.1 " in begin
    options = done.output.rpartition("Options:")[2].splitlines()
    names = [line.split()[1] for line in options if line.startswith("  -")]
    assert names == ["--help", "--list", "--version"]


def test_the_help_of_a_command_is_its_own(tmp_path: Path) -> None:
    helps = {bpfmatrix(tmp_path, *words).output for words in (("run", "--help"), ("-h", "run"))}
    assert len(helps) == 1
    text = helps.pop()
    assert text.startswith(
        "Usage: bpfmatrix run [OPTIONS]\n\nLoad and test the eBPF on one kernel."
    )
    assert "--kernel=ID" in text


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_no_word_that_a_command_takes(tmp_path: Path, word: str) -> None:
    done = bpfmatrix(tmp_path, "watch", word)
    assert done.status == 0
    assert done.output.startswith("Usage: bpfmatrix watch [OPTIONS]")


def test_commands_are_in_the_order_in_which_people_meet_them(tmp_path: Path) -> None:
    listed = bpfmatrix(tmp_path, "-l").output
    places = [listed.index(f"  {name} ") for name in ("doctor", "run", "matrix", "kernels.list")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("words", "sentence", "help"),
    [
        (("rnu",), 'rnu: there is no such command (did you mean "run"?)', "--help"),
        (("-h", "rnu"), 'rnu: there is no such command (did you mean "run"?)', "--help"),
        # invoke has these; they mean nothing to these tasks.
        (("--echo", "run"), "--echo: there is no such option", "--help"),
        (("-f", "x", "run"), "-f: there is no such option", "--help"),
        (("run", "-f"), "-f: run has no such option", "run --help"),
        (("run", "-l"), "-l is not an option of run, but of bpfmatrix itself", "run --help"),
        (
            ("report", "--outptu", "x"),
            '--outptu: report has no such option (did you mean "--output"',
            "report --help",
        ),
        (("run", "6.1", "6.2"), "6.2: run takes no such word", "run --help"),
        (("run", "--kernel"), "--kernel needs a value: The id of a kernel", "run --help"),
    ],
)
def test_a_wrong_command_line_is_refused(
    tmp_path: Path, words: tuple[str, ...], sentence: str, help: str
) -> None:
    done = bpfmatrix(tmp_path, *words)
    assert done.status == 2
    assert f"error: {sentence}" in done.output
    assert done.output.endswith(f"       Run: bpfmatrix {help}\n")


@pytest.mark.parametrize(
    "words",
    [
        *(("doctor",), ("run",), ("shell", "6.1"), ("verify",), ("pre-push",), ("report",)),
        *(("watch", "6.1"), ("clean",), ("kernels.list",), ("hooks.install",)),
    ],
    ids=" ".join,
)
def test_a_folder_without_a_project_is_told_what_to_do(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = bpfmatrix(tmp_path, *words)
    assert done.status == 2, done.output
    assert f"error: kernels.yaml: no such file in {tmp_path}" in done.output
    assert "let `bpfmatrix init` write one." in done.output


def test_the_project_is_found_from_a_folder_below_it(project: ToolProject) -> None:
    below = project.root / "some/where"
    below.mkdir(parents=True)
    done = bpfmatrix(below, "kernels.list", "--json")
    assert done.status == 0, done.output
    assert '"kernel": "6.1"' in done.output


def test_hints_name_the_program_itself(project: ToolProject) -> None:
    assert "Run: bpfmatrix run --kernel 6.1\n" in bpfmatrix(project.root, "logs", "6.1").output
    assert "Run: bpfmatrix matrix\n" in bpfmatrix(project.root, "report").output


def test_tasks_of_the_projects_own_stay_invokes(project: ToolProject) -> None:
    (project.root / "tasks.py").write_text(
        "from invoke import task\nfrom bpfmatrix.tasks import namespace\n\n"
        "@task\ndef own(c):\n    print('it ran')\n\n"
        "namespace.add_task(own)\n"
    )
    assert "it ran" in project.invoke("own").output
    assert "error: own: there is no such command" in bpfmatrix(project.root, "own").output


def test_a_kernel_may_be_named_by_a_word_alone(project: ToolProject) -> None:
    done = bpfmatrix(project.root, "run", "5.1")
    assert done.status == 2
    assert "error: no kernel '5.1' in kernels.yaml" in done.output
    none = bpfmatrix(project.root, "run")
    assert none.output == (
        "error: no kernel is named\n       Name it, as in --kernel 6.1. kernels.yaml has: 6.1.\n"
    )


def test_a_closed_output_causes_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [PROGRAM, "--help"], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize("module", ["bpfmatrix.cli.options", "invoke.collection", "invoke.program"])
def test_ctrl_c_while_modules_are_imported_is_silent(tmp_path: Path, module: str) -> None:
    """Python says of each import when it is complete; the signal comes at one of them."""
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-v", "-m", "bpfmatrix", "-l"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    said = tmp_path / "errors"
    name = f"import '{module}'"
    wait_until(lambda: process.poll() is not None or name in said.read_text(), "it is imported")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (-signal.SIGINT, 0)
    assert "Traceback" not in said.read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("logs",), "no kernel is named"),
        (("watch",), "no kernel is named"),
        (("profile-python", "x.py"), "no kernel is named"),
        (("profile-python", "--kernel", "6.1"), "profile-python runs a script or a module"),
        (
            ("profile-python", "--kernel", "6.1", "-m", "json.tool", "-o", "/proc/none/a.svg"),
            "/proc/none/a.svg: No such file or directory",
        ),
        (("completion",), "--shell is missing: bash, zsh or fish."),
        (("report", "--output", "."), "--output .: expected the name of a file, and this is a"),
        (("report", "--output="), "--output '': expected the name of a file"),
        (("verify", "--save", "/"), "--save /: expected the name of a file, and this is a folder"),
        (("verify", "--csv", "x/"), "--csv x/: expected the name of a file, and this is a folder"),
        (("verify", ""), "--objects '': expected the name of an object or a folder"),
        (("matrix", "--kernels", "6.1,,6.1"), "--kernels 6.1,,6.1: expected ids with commas"),
        (("matrix", "--kernels="), "--kernels '': expected ids with commas"),
        (("matrix", "--jobs", "0"), "--jobs 0: expected a number of machines"),
        (("kernels.fetch", "6.3"), "no kernel '6.3' in kernels.yaml"),
        (("kernels.update", "6.3"), "no kernel '6.3' in kernels.yaml"),
    ],
)
def test_a_wrong_word_is_explained(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    (tmp_path / "kernels.yaml").write_text('kernels: {"6.1": {source: {apt: {suite: x}}}}\n')
    done = bpfmatrix(tmp_path, *words)
    assert done.output.startswith(f"error: {sentence}")
    assert done.status == 2


@pytest.mark.parametrize("words", [("run", "6.1", "--run", "x"), ("bisect",)])
def test_a_project_with_objects_only_is_told_what_objects_need(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "kernels.yaml").write_text(
        'kernels: {"6.1": {source: {apt: {suite: x}}}}\nverify: {objects: [{path: a.bpf.o}]}\n'
    )
    done = bpfmatrix(tmp_path, *words)
    assert done.status == 2
    assert done.output.startswith("error: there is nothing to run: no Go tests and no binaries")
    for example in ("verify", "bisect --oldest", "bisect OBJECT --program NAME"):
        assert f": bpfmatrix {example}\n" in done.output
    assert not list(tmp_path.glob(".bpfmatrix/*/*.json"))
    assert bpfmatrix(tmp_path, "debug", "6.1").output.startswith("error: a.bpf.o: no such file")
