"""What `profile-python` prints of losses, truncated stacks and processes."""

from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.cli.profile_output import print_profile
from bpfmatrix.config.project import Project
from bpfmatrix.profile.losses import Loss
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.stacks import SourceLine, Stack
from bpfmatrix.profile.symbolization import Symbolized
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
    **summary: Any,
) -> list[str]:
    python = {"lib/os.py": Path("/usr/lib/python3.11/os.py")}
    recording = Recording(Path("x"), python, {"python": "3.11", **summary})
    lost = summary.get("lost", ())
    losses = [Loss(entry["count"], (entry["file"], entry["function"])) for entry in lost]
    print_profile(Project.load(project.root), recording, Symbolized(stacks, losses))
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
    output = printed(project, capsys, stacks, counters={"lost": 5})
    assert {name: row[0] for name, row in rows(output).items()} == {
        "first()": "8",
        "second()": "?",
        "third()": "?",
    }
    assert output[-2:] == [
        "note: 5 samples could not be kept, and their code is not known",
        "note: with these samples, a line marked ? could have another place",
    ]


def test_the_code_of_losses_is_named(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    lost = [
        {"count": 3, "file": lines[0].file, "function": "spin"},
        {"count": 1, "file": "/x/b.py", "function": "other"},
    ]
    output = printed(
        project,
        capsys,
        [Stack((lines[0],), 90, 1)],
        counters={"lost": 6},
        lost=lost,
    )
    assert output[-2:] == [
        "note: 6 samples could not be kept: 3 in spin of hot.py, 1 in other of /x/b.py, "
        "2 of unknown code",
        "note: these samples could not change the order of the lines above",
    ]


def test_a_share_without_outer_lines_is_a_lower_bound(
    project: ToolProject, capsys: pytest.CaptureFixture[str], lines: list[SourceLine]
) -> None:
    stacks = [
        Stack((lines[0], lines[1]), 50, 1),
        Stack((lines[0],), 50, 1, truncated="too deep"),
    ]
    output = printed(project, capsys, stacks, counters={"too_deep": 50})
    assert rows(output) == {"first()": "100.0%      100.0%", "second()": "0.0%      ≥50.0%"}
    assert output[-2:] == [
        "note: 50 samples lack outer lines, because the stack was too deep",
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


def test_a_name_has_no_escape_sequences(
    project: ToolProject, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = SourceLine("/x/\x1b[31mred.py", 1, "f\x07")
    output = "\n".join(printed(project, capsys, [Stack((odd,), 1, 1, "\x1b]0;x\x07")]))
    assert "\x1b" not in output
    assert "\x07" not in output
