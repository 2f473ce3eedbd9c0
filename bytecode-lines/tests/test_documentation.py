"""The examples of docs/formats.md are what the command prints."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from compiled import ENVIRONMENT

ROOT = Path(__file__).parents[1]


def test_examples_are_what_the_command_prints() -> None:
    blocks: list[list[str]] = []
    for line in (ROOT / "docs/formats.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("    $ bytecode-lines lines "):
            blocks.append([line[6:]])
        elif blocks and line.startswith("    "):
            blocks[-1].append(line[4:])
        elif blocks and blocks[-1][-1]:
            blocks[-1].append("")
    assert len(blocks) == 5
    for command, *shown in blocks:
        words = [sys.executable, "-m", "bytecode_lines", *shlex.split(command)[1:]]
        done = subprocess.run(
            words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        assert "\n".join(shown).split("\n\n")[0].splitlines() == done.stdout.splitlines()
