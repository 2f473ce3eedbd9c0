"""Fixtures of the tests of what commands print."""

import io

import pytest
from rich.console import Console

from bpfmatrix.cli import console


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the console prints if there is no terminal."""
    for name in ("GITHUB_ACTIONS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    written = io.StringIO()
    monkeypatch.setattr(console, "make_console", lambda _=False, raw=False: into(written, raw))
    return written


def into(written: io.StringIO, raw: bool = False) -> Console:
    made = console.SafeConsole(raw=raw)
    made.file, made.width = written, 200
    return made
