"""What the commands say of wrong arguments, and how the commands of a batch end."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.tool import REPOSITORY

IN_GDB = REPOSITORY / "src/bpfmatrix/debug/in_gdb/load.py"
# The host stops a guest with this signal.
INTERRUPTED = """
#include <signal.h>
int main(void) { raise(SIGINT); raise(SIGINT); raise(SIGINT); return 0; }
"""


def said(*commands: str) -> str:
    """Return what gdb says to commands, each of which it may refuse."""
    words = ["gdb", "-nx", "-batch", "-ex", f"source {IN_GDB}"]
    for command in commands:
        words += ["-ex", command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_wrong_number_is_named_with_the_use_of_the_command() -> None:
    text = said("bpf-path x", "bpf-path 0", "bpf-insn -1", "bpf-insn foo", "bpf-dump map m abc")
    assert text.splitlines() == [
        "`x` is not a number from 1 on: bpf-path [LINES]",
        "`0` is not a number from 1 on: bpf-path [LINES]",
        "`-1` is not a number: bpf-insn [NUMBER]",
        "`foo` is not a number: bpf-insn [NUMBER]",
        "`abc` is not a number from 1 on: bpf-dump map ID [ENTRIES], or bpf-dump prog [ID]",
    ]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("short", "short"),
        ("a_map_with_a_long_name", "a_map_with_a_lo"),
        ("a_map_with_a_lo", "a_map_with_a_lo"),
    ],
)
def test_a_name_is_cut_as_the_kernel_cuts_it(word: str, name: str) -> None:
    shows = (
        f"python from bpfmatrix_in_gdb import arguments; print(arguments.kernels_name('{word}'))"
    )
    assert said(shows).splitlines() == [name]


def test_a_batch_names_what_did_not_end_by_itself(tmp_path: Path) -> None:
    """The first interrupt is the end of the work. The guest would run for ever after the others."""
    program, report = tmp_path / "program", tmp_path / "report.json"
    compiler = ["gcc", "-x", "c", "-", "-o", str(program)]
    subprocess.run(compiler, input=INTERRUPTED, text=True, check=True)
    batch = ["continue", "print 1", "continue", "print 2", "continue"]
    said(f"file {program}", "start", f"python session.run_batch({batch}, '{report}')")
    why = "the work has ended, and nothing else stopped the guest"
    assert json.loads(report.read_text()) == {"failed": [["continue", why]] * 2, "left": []}
