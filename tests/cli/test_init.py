"""`bpfmatrix init`: which files it writes and keeps, and what it says; no source is asked."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bpfmatrix.cli import init
from bpfmatrix.config import kernels_yaml
from bpfmatrix.errors import BpfmatrixError, ConfigError, UnreachableError, UsageError
from bpfmatrix.scaffold import rendering
from tests.scaffold.project import EBPF, make

MINE = 'kernels: {"6.1": {source: {oci: "a/b:1"}}}\npayload: {ebpf: null, go: null}\n'
UNREACHABLE = UnreachableError("there is no network")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(questions: Mapping[str, Callable[[], None]]) -> dict[str, BpfmatrixError | None]:
        return dict.fromkeys(questions, UNREACHABLE)

    monkeypatch.setattr(init, "asked", asked)
    monkeypatch.setattr(rendering, "ci_text", lambda system, branch, *_: f"{system} of {branch}\n")


@pytest.fixture
def said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run init in the project's folder, and return what it prints."""

    def run(
        ci: str | None = None, *, folder: str = ".", here: bool = False, dry_run: bool = False
    ) -> str:
        monkeypatch.chdir(tmp_path / folder)
        init.write_first_files(tmp_path / folder, ci, here=here, dry_run=dry_run)
        return capsys.readouterr().out

    return run


def test_what_is_found_and_written_is_said(tmp_path: Path, said: Callable[..., str]) -> None:
    make(tmp_path, {"build/a.bpf.o": EBPF, "build/b.bpf.o": EBPF})
    lines = said().splitlines()
    assert lines[0] == "found   build/*.bpf.o (2 objects)"
    assert lines[1] == "wrote   kernels.yaml (5.10, 6.1, 6.12, newest), noxfile.py, tasks.py"
    assert lines[2].startswith("next    ")
    assert lines[2].endswith(" matrix")
    assert kernels_yaml.load(tmp_path / "kernels.yaml").verify.objects[0].path == "build/*.bpf.o"


def test_files_that_are_there_are_kept(tmp_path: Path, said: Callable[..., str]) -> None:
    own = {"kernels.yml": MINE, "noxfile.py": "import nox\n", "tasks.py": "# bpfmatrix\n"}
    make(tmp_path, own)
    lines = said().splitlines()
    assert "kept    kernels.yml, noxfile.py, tasks.py" in lines
    assert (
        "next    add to noxfile.py: `from bpfmatrix.sessions import register`, and `register()`"
        in lines
    )
    assert not any("add to tasks.py" in line for line in lines)
    assert {name: (tmp_path / name).read_text() for name in own} == own
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(own)


def test_a_link_to_nowhere_is_kept(tmp_path: Path, said: Callable[..., str]) -> None:
    (tmp_path / "tasks.py").symlink_to("nowhere")
    assert "kept    tasks.py" in said()
    assert (tmp_path / "tasks.py").is_symlink()


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("empty", "kernels.yaml: is empty"),
        ("broken", "kernels.yaml: line 1: no valid YAML"),
        ("pipe", "kernels.yaml: is no regular file"),
        ("loop", "kernels.yaml: can't be read: Too many levels of symbolic links"),
        ("dangling", "kernels.yaml: is a link to gone, which is not there"),
    ],
)
def test_a_kernels_yaml_that_can_not_be_read_is_an_error_and_nothing_is_written(
    tmp_path: Path, said: Callable[..., str], what: str, error: str
) -> None:
    path = tmp_path / "kernels.yaml"
    match what:
        case "empty" | "broken":
            path.write_text("{" if what == "broken" else "")
        case "pipe":
            os.mkfifo(path)
        case _:
            path.symlink_to("kernels.yaml" if what == "loop" else "gone")
    with pytest.raises(ConfigError) as caught:
        said()
    assert caught.value.what.startswith(error)
    assert caught.value.exit_status == 2
    assert [one.name for one in tmp_path.iterdir()] == ["kernels.yaml"]


def test_a_folder_of_a_project_is_no_project_unless_asked(
    tmp_path: Path, said: Callable[..., str]
) -> None:
    make(tmp_path, {"kernels.yml": MINE, "a/b/README": ""})
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=r"folder above, \.\./\.\./kernels\.yml, is used"):
            said(folder="a/b", dry_run=dry_run)
    assert [one.name for one in (tmp_path / "a/b").iterdir()] == ["README"]
    assert "wrote   kernels.yaml" in said(folder="a/b", here=True)
    assert "kept    kernels.yaml" in said(folder="a/b")


@pytest.mark.parametrize("started", ["/bin/bpfmatrix", "/bin/invoke", "/bin/nox"])
def test_the_next_command_is_one_of_the_front_end(
    said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str
) -> None:
    make(tmp_path, {"a.bpf.o": EBPF})
    monkeypatch.setattr("sys.argv", [started])
    command = said().splitlines()[-1].removeprefix("next    ")
    assert (
        command
        == {
            "/bin/bpfmatrix": "/bin/bpfmatrix matrix",
            "/bin/invoke": "invoke matrix",
            "/bin/nox": "nox -s matrix",
        }[started]
    )


def test_a_dry_run_prints_the_files_and_writes_none(
    tmp_path: Path, said: Callable[..., str]
) -> None:
    text = said("github", dry_run=True)
    assert "--- kernels.yaml\n# yaml-language-server: " in text
    assert "--- .github/workflows/bpfmatrix.yml\ngithub of main\n" in text
    assert "would   write kernels.yaml (" in text
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_ci_system_is_written_once(tmp_path: Path, said: Callable[..., str]) -> None:
    path = tmp_path / ".github/workflows/bpfmatrix.yml"
    assert ".github/workflows/bpfmatrix.yml" in said("github")
    assert path.read_text() == "github of main\n"
    path.write_text("changed")
    assert "kept    kernels.yaml, noxfile.py, tasks.py, .github/workflows/bpfmatrix.yml" in said(
        "github"
    )
    assert path.read_text() == "changed"


def test_gitlab_without_a_file_gets_one(tmp_path: Path, said: Callable[..., str]) -> None:
    assert ".gitlab-ci.yml" in said("gitlab")
    assert (tmp_path / ".gitlab-ci.yml").read_text() == "gitlab of main\n"


def test_gitlab_with_a_file_gets_one_to_include(tmp_path: Path, said: Callable[..., str]) -> None:
    make(tmp_path, {".gitlab-ci.yml": "test: {script: [true]}\n"})
    lines = said("gitlab").splitlines()
    assert "next    add to .gitlab-ci.yml: include: [{local: /.gitlab/bpfmatrix.yml}]" in lines
    assert (tmp_path / ".gitlab/bpfmatrix.yml").read_text() == "gitlab of main\n"
    assert (tmp_path / ".gitlab-ci.yml").read_text() == "test: {script: [true]}\n"


def test_a_project_in_a_folder_of_a_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, {"a/project/README": ""}, git=True)
    root = tmp_path / "a/project"
    init.write_first_files(root, "github", here=False, dry_run=False)
    assert "../../.github/workflows/bpfmatrix.yml" in capsys.readouterr().out
    assert (tmp_path / ".github/workflows/bpfmatrix.yml").exists()
    init.write_first_files(root, "gitlab", here=False, dry_run=False)
    assert "../../.gitlab-ci.yml" in capsys.readouterr().out
    assert (tmp_path / ".gitlab-ci.yml").exists()
    (tmp_path / ".gitlab-ci.yml").write_text("test: {script: [true]}\n")
    init.write_first_files(root, "gitlab", here=False, dry_run=False)
    assert "../../.gitlab/bpfmatrix.yml" in capsys.readouterr().out
    assert (tmp_path / ".gitlab/bpfmatrix.yml").exists()


def test_where_there_is_nothing_the_next_step_is_to_declare(said: Callable[..., str]) -> None:
    lines = said().splitlines()
    assert lines[0] == "found   no eBPF objects, Go tests, cargo workspace or test executables"
    assert lines[-1] == "next    declare in kernels.yaml what to load or run: it has examples"


def test_what_has_to_be_run_first_comes_first(tmp_path: Path, said: Callable[..., str]) -> None:
    makefile = "out/%.bpf.o: %.bpf.c\n\tclang\n"
    make(tmp_path, {"src/Makefile": makefile, "src/a.bpf.c": ""})
    lines = [line for line in said().splitlines() if line.startswith("next")]
    assert lines[0] == "next    make -C src"
    assert lines[1].endswith(" matrix")


def test_a_folder_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".github").write_text("a file")
    with pytest.raises(OSError, match=r"\.github"):
        init.write_first_files(tmp_path, "github", here=False, dry_run=False)


def test_many_files_take_no_time(tmp_path: Path, said: Callable[..., str]) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for number in range(20):
        folder = tmp_path / f"node_modules/{number}"
        folder.mkdir(parents=True)
        (folder / "x.o").write_bytes(EBPF)
    assert "found   no eBPF objects" in said()
