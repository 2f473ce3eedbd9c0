"""The examples of docs/formats.md and README.md are what the command prints."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

from compiled import ENVIRONMENT, FIXTURES, functions

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


def test_the_examples_of_the_readme_print_what_it_says() -> None:
    _, *parts = (ROOT / "README.md").read_text(encoding="utf-8").split("```")
    examples = list(zip(parts[::2], parts[1::2]))
    assert len(examples) == 2
    for example, after in examples:
        words = [sys.executable, "-c", example[len("python\n") :]]
        done = subprocess.run(
            words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        _, printed, *_ = after.split("\n\n")[1:]
        shown = [line.strip() for line in printed.splitlines()]
        assert shown == done.stdout.splitlines()


def test_lines_as_json_have_all_of_a_code_object() -> None:
    path = str(FIXTURES / "traps.3.12.pyc")
    words = [sys.executable, "-m", "bytecode_lines", "lines", "--json", path]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    described = {each["name"]: each for each in map(json.loads, done.stdout.splitlines())}
    found = functions((3, 12))
    assert described.keys() == found.keys()
    for name, code in found.items():
        one = described[name]
        assert (one["python"], one["identity"]) == ("3.12", str(code.identity))
        assert [tuple(each.values()) for each in one["ranges"]] == code.lines.ranges
        table = (ROOT / "README.md").read_text(encoding="utf-8").split("| key | meaning |")[1]
        assert all(f"`{key}`" in table for key in one)
