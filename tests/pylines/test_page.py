"""The examples of docs/python-lines.md are what the command prints."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_examples_are_what_the_command_prints() -> None:
    blocks: list[list[str]] = []
    for line in (ROOT / "docs/python-lines.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("    $ python -m pylines lines "):
            blocks.append([line[6:]])
        elif blocks and line.startswith("    "):
            blocks[-1].append(line[4:])
        elif blocks and blocks[-1][-1]:
            blocks[-1].append("")
    assert len(blocks) == 5
    for command, *shown in blocks:
        words = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "\n".join(shown).split("\n\n")[0].splitlines() == done.stdout.splitlines()
