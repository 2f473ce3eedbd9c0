"""The recorded sessions of docs/sessions: they have the commands that they were recorded from."""

import re
import textwrap
from pathlib import Path

import pytest
from docs.sessions import record

from tests.tool import REPOSITORY

SESSIONS = sorted((REPOSITORY / "docs/sessions").glob("*.commands"), key=lambda path: path.name)


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_a_session_was_recorded_from_its_commands(session: Path) -> None:
    again = "record it again: python docs/sessions/record.py"
    rest = session.with_suffix(".txt").read_text()
    before = ""
    status = 0
    for block in record.blocks(session.read_text()):
        command, next_status = record.parts(block)
        shown = block if block.startswith("# ") else record.typed(command)
        said, found, rest = rest.partition(f"{shown}\n")
        assert found, f"{again}: {shown}"
        assert statuses(said) == ([status] if status else []), f"{again}: {before}"
        before, status = shown, next_status
    assert statuses(rest) == ([status] if status else []), f"{again}: {before}"


def statuses(said: str) -> list[int]:
    """Return the statuses other than 0 in what commands printed."""
    return [int(one) for one in re.findall(r"^\(exit status (\d+)\)$", said, re.MULTILINE)]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_a_session_has_a_green_run_and_a_red_one(session: Path) -> None:
    recorded = session.with_suffix(".txt").read_text()
    if "profile-python" not in recorded:  # a script passes or fails no test
        assert "passed" in recorded
        assert "failed" in recorded
    assert "(exit status 1)" in recorded
    assert "Traceback" not in recorded
    assert "unbound variable" not in recorded


def test_a_block_is_recorded_with_what_it_prints_and_its_status(tmp_path: Path) -> None:
    block = "echo one\nprintf '\\033[1mtwo\\033[0m  \\n'; pwd; exit 3\n(exit status 3)"
    assert record.record(block, tmp_path) == (
        "$ echo one\n"
        "> printf '\\033[1mtwo\\033[0m  \\n'; pwd; exit 3\n"
        "one\ntwo\n~/project\n(exit status 3)\n"
    )
    assert record.record("# A remark.", tmp_path) == "# A remark.\n"


@pytest.mark.parametrize(
    "block",
    [
        "cp $NOT_SET_HERE linux-image.deb",
        "cp $NOT_SET_HERE linux-image.deb\n(exit status 1)",
        'echo "$(echo $NOT_SET_HERE)"',
        "false; true",
        "false | cat",
        "exit 3\n(exit status 1)",
        "true\n(exit status 1)",
    ],
)
def test_another_status_or_a_variable_that_is_not_set_is_refused(
    tmp_path: Path, block: str
) -> None:
    with pytest.raises(record.UnexpectedStatusError, match="exit status"):
        record.record(block, tmp_path)


def test_a_session_that_fails_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "HERE", tmp_path)
    (tmp_path / "a.commands").write_text("echo a\n\nexit 3\n")
    with pytest.raises(SystemExit, match="a is not recorded: exit status 3 of: exit 3"):
        record.main(["a"])
    assert not (tmp_path / "a.txt").exists()


@pytest.mark.parametrize(
    ("page", "command", "session"),
    [
        ("README.md", "bpfmatrix matrix", "go-developer"),
        ("docs/profiling-python.md", "bpfmatrix profile-python", "python-developer"),
    ],
)
def test_the_session_of_a_page_is_an_excerpt_of_a_recorded_one(
    page: str, command: str, session: str
) -> None:
    text = (REPOSITORY / page).read_text()
    shown = re.search(rf"^    \$ {command}.*\n(?:(?:    .*)?\n)+?(?=^\S)", text, re.MULTILINE)
    assert shown is not None
    rest = (REPOSITORY / f"docs/sessions/{session}.txt").read_text()
    for part in textwrap.dedent(shown[0]).rstrip("\n").split("...\n"):
        assert part in rest, f"make it an excerpt of docs/sessions/{session}.txt"
        rest = rest.partition(part)[2]
