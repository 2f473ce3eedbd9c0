"""The recorded sessions of docs/sessions: they have the commands that they were recorded from."""

from pathlib import Path

import pytest
from docs.sessions import record

from tests.tool import REPOSITORY

SESSIONS = sorted((REPOSITORY / "docs/sessions").glob("*.commands"), key=lambda path: path.name)


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_a_session_was_recorded_from_its_commands(session: Path) -> None:
    recorded = session.with_suffix(".txt").read_text()
    rest = recorded
    for block in record.blocks(session.read_text()):
        shown = block if block.startswith("# ") else record.typed(block)
        assert f"{shown}\n" in rest, "record it again: python docs/sessions/record.py"
        rest = rest.partition(f"{shown}\n")[2]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_a_session_has_a_green_run_and_a_red_one(session: Path) -> None:
    recorded = session.with_suffix(".txt").read_text()
    assert "passed" in recorded
    assert "failed" in recorded
    assert "(exit status 1)" in recorded
    assert "Traceback" not in recorded


def test_a_block_is_recorded_with_what_it_prints_and_its_status(tmp_path: Path) -> None:
    block = "echo one\nprintf '\\033[1mtwo\\033[0m  \\n'; pwd; exit 3"
    assert record.record(block, tmp_path) == (
        "$ echo one\n"
        "> printf '\\033[1mtwo\\033[0m  \\n'; pwd; exit 3\n"
        "one\ntwo\n~/project\n(exit status 3)\n"
    )
    assert record.record("# A remark.", tmp_path) == "# A remark.\n"
