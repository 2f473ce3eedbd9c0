"""What `profile-python` prints of losses, truncated stacks and processes, and what it writes."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bpfmatrix.cli.profile import profile, write_files
from bpfmatrix.cli.profile_output import print_profile
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.script import ScriptRequest
from bpfmatrix.profile.stacks import UNKNOWN_THREAD, SourceLine, Stack
from bpfmatrix.profile.symbolization import Symbolized
from bpfmatrix.profile.workload import ProfileOptions
from tests.tool import ToolProject


@pytest.fixture
def lines(project: ToolProject) -> list[SourceLine]:
    path = project.root / "hot.py"
    path.write_text("def spin():\n    first()\n    second()\n    third()\n")
    return [SourceLine(str(path), number, "spin") for number in (2, 3, 4)]


def printed(
    project: ToolProject,
    capsys: pytest.CaptureFixture[str],
    stacks: list[Stack],
    lost: Sequence[Stack] = (),
    **counters: int,
) -> list[str]:
    python = {"lib/python3.11/os.py": Path("/usr/lib/python3.11/os.py")}
    recording = Recording(Path("x"), python, {"python": "3.11", "counters": counters})
    print_profile(Project.load(project.root), recording, Symbolized(stacks, list(lost)))
    return capsys.readouterr().out.splitlines()


def rows(output: list[str]) -> dict[str, str]:
    """Return what is printed before each line of hot.py."""
    return {
        line.split("spin")[1].strip(): line.split("hot.py")[0].strip()
        for line in output
        if "hot.py:" in line and "note" not in line
    }


def test_without_losses_nothing_is_marked(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    output = printed(project, capsys, [Stack((line,), 10, 1) for line in lines])
    assert rows(output) == {
        f"{word}()": "33.3%       33.3%" for word in ("first", "second", "third")
    }
    assert not [line for line in output if "note" in line or "?" in line or "≥" in line]


def test_lines_that_losses_could_move_are_marked(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    stacks = [Stack((line,), count, 1) for line, count in zip(lines, (80, 12, 8), strict=True)]
    output = printed(project, capsys, stacks, not_found=2, unreadable=3)
    assert {name: row[0] for name, row in rows(output).items()} == {
        "first()": "8",
        "second()": "?",
        "third()": "?",
    }
    assert output[-1] == (
        "note: 5 samples of unknown code could give a line marked ? another place"
    )


def test_the_code_of_losses_is_named_and_they_are_in_the_ranking(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    other = SourceLine("/x/b.py", 1, "other")
    stacks = [Stack((lines[0],), 60, 1), Stack((lines[1],), 20, 1)]
    lost = [
        Stack((line,), count, UNKNOWN_THREAD, truncated="lost")
        for line, count in ((lines[1], 15), (lines[2], 4), (other, 1))
    ]
    output = printed(project, capsys, stacks, lost)
    assert output[1] == "100 samples of 1 thread, CPython 3.11"
    assert rows(output) == {
        "first()": "60.0%      ≥60.0%",
        "second()": "35.0%      ≥35.0%",
        "third()": "4.0%       ≥4.0%",
    }
    assert output[-2:] == [
        "note: 20 samples with only the innermost line, taken too fast: "
        "19 in spin of hot.py, 1 in other of /x/b.py",
        "note: a share marked ≥ could be larger, as outer lines are missing",
    ]


def test_unknown_samples_that_change_no_place_are_told(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    output = printed(project, capsys, [Stack((lines[0],), 60, 1)], not_found=3)
    assert output[-1] == "note: 3 samples of unknown code could not change this order"


def test_a_share_without_outer_lines_is_a_lower_bound(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    stacks = [
        Stack((lines[0], lines[1]), 50, 1),
        Stack((lines[0],), 50, 1, truncated="too deep"),
    ]
    output = printed(project, capsys, stacks, too_deep=50)
    assert rows(output) == {"first()": "100.0%      100.0%", "second()": "0.0%      ≥50.0%"}
    assert output[-2:] == [
        "note: 50 samples without outer lines, because the stack was too deep",
        "note: a share marked ≥ could be larger, as outer lines are missing",
    ]


def test_several_processes_have_a_table(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    stacks = [
        Stack((lines[0],), 30, 1, "main.py 7"),
        Stack((lines[1],), 70, 8, "worker.py 8"),
    ]
    output = printed(project, capsys, stacks)
    assert output[1] == "100 samples of 2 threads in 2 processes, CPython 3.11"
    assert output[2].split() == ["samples", "process", "hottest", "line"]
    assert output[3].split() == ["70.0%", "worker.py", "8", "hot.py:3", "spin"]
    assert output[4].split() == ["30.0%", "main.py", "7", "hot.py:2", "spin"]


def test_the_samples_that_no_share_counts_are_told_first(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    output = printed(project, capsys, [Stack((lines[0],), 60, 1)], not_found=30, no_frame=4)
    assert output[1] == "60 samples of 1 thread, CPython 3.11, without 30 of unknown code"
    assert "note: 4 samples of threads that ran no Python code, left out" in output


def test_the_source_of_a_relative_path_is_not_looked_for(
    project: ToolProject, capsys: pytest.CaptureFixture[str]
) -> None:
    # The standard library has a file of this name.
    output = printed(project, capsys, [Stack((SourceLine("abc.py", 1, "f"),), 1, 1)])
    assert output[-1].rstrip() == "100.0%      100.0%  abc.py:1 f"


def test_a_name_with_a_line_feed_takes_one_row(
    project: ToolProject, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = SourceLine("a;b\n.py", 1, "f\rg")
    lost = Stack((odd,), 1, UNKNOWN_THREAD, truncated="lost")
    output = printed(project, capsys, [Stack((odd,), 1, 1, "x\ny"), Stack((odd,), 1, 1)], [lost])
    assert [line for line in output if "a;b .py" in line and "100.0%" in line]
    assert not [line for line in output if line.startswith(".py") or line.startswith("y")]


def test_a_file_that_can_not_be_written_is_told_before_the_run(
    project: ToolProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfmatrix.cli.profile.run_one", lambda *_: pytest.fail("it ran"))
    (tmp_path / "file").touch()
    request, options = ScriptRequest(tmp_path / "file"), ProfileOptions()
    written = [(tmp_path / "file/a.svg", ".svg"), (tmp_path / "new/a.folded", ".folded")]
    with pytest.raises(UsageError, match=r"file/a\.svg: Not a directory"):
        profile(Project.load(project.root), "6.1", request, options, written)
    assert not (tmp_path / "new").exists()


def test_a_name_has_no_escape_sequences(
    project: ToolProject, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = SourceLine("/x/\x1b[31mred.py", 1, "f\x07")
    output = "\n".join(printed(project, capsys, [Stack((odd,), 1, 1, "\x1b]0;x\x07")]))
    assert "\x1b" not in output
    assert "\x07" not in output


def test_a_file_that_can_not_be_written_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    below, beside = tmp_path / "file/a.svg", tmp_path / "new/a.folded"
    stacks = [Stack((SourceLine("/x/a.py", 1, "f"),), 2, 1)]
    with pytest.raises(BpfmatrixError, match=r"file/a\.svg: (Not a directory|File exists)"):
        write_files(stacks, "title", [(below, ".svg"), (beside, ".folded")])
    assert beside.read_text() == "f (a.py:1) 2\n"
    assert capsys.readouterr().out == f"folded        {beside}\n"


def test_a_long_path_leaves_the_numbers_and_a_package_has_a_short_one(
    project: ToolProject, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [f"/x/{'long/' * 40}a.py", "/home/me/env/lib/python3.11/site-packages/pkg/b.py"]
    stacks = [Stack((SourceLine(path, 1, "f"),), 1, 1) for path in paths]
    output = "\n".join(printed(project, capsys, stacks))
    assert output.count("50.0%       50.0%  ") == 2
    assert " pkg/b.py:1 f" in output
