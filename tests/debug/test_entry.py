"""Where gdb stops first: at the beginning of the verifier, whatever a compiler made of it.

gdb runs programs that have the verifier's outline: verifier/kernel/bpf/verifier.c.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tool import REPOSITORY

IN_GDB = REPOSITORY / "src/bpfmatrix/debug/in_gdb/load.py"
VERIFIER = Path(__file__).parent / "verifier"
GCC = ("gcc", "-O2")
# As bootstrap looks for it.
_CLANGS = ("clang-19", "clang-20", "clang-21", "clang-22")
CLANG = (next(filter(shutil.which, _CLANGS), "clang"), "-O2")
# As releases before 8 compile, and other compilers: no instruction has the line of a call.
OLD_GCC = (*GCC, "-gno-statement-frontiers", "-gno-variable-location-views")
# How far the program has come.
SHOW = 'printf "called %d, begun %d\\n", called, begun'


def built(folder: Path, compiler: tuple[str, ...], *flags: str) -> Path:
    """Compile the program whose verifier has the form of these flags."""
    program = folder / "program"
    sources = ("kernel/bpf/verifier.c", "main.c")
    words = [*compiler, *flags, "-g", "-no-pie", *sources, "-o", str(program)]
    subprocess.run(words, cwd=VERIFIER, check=True)
    return program


def stops(program: Path, setup: str, show: str = SHOW, times: int = 3) -> list[str]:
    """Run the program under gdb to its end; return what each stop shows."""
    shown = re.findall(r"\[\[(.*?)\]\]\n", said(program, setup, show, times), re.S)
    return [text for text in shown if "#0" in text]


def said(program: Path, setup: str, show: str = SHOW, times: int = 3) -> str:
    """Run the program under gdb to its end; return what gdb prints."""
    lines = ["set breakpoint pending off", f"source {IN_GDB}", setup, "run"]
    for _ in range(times):
        lines += ["echo [[", "frame", show, "backtrace", "echo ]]\\n", "continue"]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *(word for line in lines for word in ("-ex", line)), program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "exited normally" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.stdout


ENTRY = "python entry.break_at_entry()"


@pytest.mark.parametrize("form", ["INLINED", "TWICE", "OWN", "PART"])
@pytest.mark.parametrize("compiler", [GCC, CLANG], ids=["gcc", "clang"])
def test_it_stops_before_anything_of_the_body_for_a_program_with_a_name(
    compiler: tuple[str, ...], form: str, tmp_path: Path
) -> None:
    found = stops(built(tmp_path, compiler, f"-D{form}"), ENTRY)
    # main loads a program without a name first.
    assert len(found) == (2 if form == "TWICE" else 1), found
    for number, text in enumerate(found, start=1):
        assert f"called {number}, begun 0\n" in text
        assert re.search(r"^#\d  .*\bdo_check \(env=", text, re.M)


def test_it_needs_no_variable(tmp_path: Path) -> None:
    """5.4 is built like that: the variable `env` of an inlined do_check is optimized out."""
    program = built(tmp_path, GCC, "-DINLINED", "-fno-var-tracking-assignments")
    [text] = stops(program, ENTRY)
    assert "do_check (env=<optimized out>)" in text
    assert "called 1, begun 0\n" in text


def test_the_frame_is_that_of_the_function_and_not_of_one_that_begins_there(
    tmp_path: Path,
) -> None:
    [text] = stops(built(tmp_path, GCC, "-DINLINED"), ENTRY)
    assert re.match(r"#1  .*do_check \(env=0x", text)
    assert re.search(r"^#0  kzalloc", text, re.M)


def test_where_the_beginning_is_not_known_it_stops_in_the_function_around(tmp_path: Path) -> None:
    [text] = stops(built(tmp_path, OLD_GCC, "-DINLINED"), ENTRY)
    assert text.startswith("#0  bpf_check (")
    assert "called 0, begun 0\n" in text


def test_names_alone(tmp_path: Path) -> None:
    program = built(tmp_path, GCC, "-DINLINED")
    subprocess.run(["strip", "-g", program], check=True)
    [text] = stops(program, ENTRY, show="backtrace 1")
    assert re.search(r"^#0  0x\w+ in bpf_check \(\)$", text, re.M)


def test_a_kernel_that_has_inlined_bpf_check_too(tmp_path: Path) -> None:
    """The system call's arguments are not found, but the name is in the verifier's state."""
    [text] = stops(built(tmp_path, GCC, "-DOWN", "-Dbpf_check=check_attr"), ENTRY)
    assert "called 1, begun 0\n" in text


def test_a_given_function_stops_for_each_program_and_in_each_copy(tmp_path: Path) -> None:
    found = stops(built(tmp_path, GCC, "-DTWICE"), "python entry.break_at('do_check')", times=5)
    assert [text.splitlines()[2] for text in found] == [
        "called 1, begun 0",
        "called 2, begun 0",
    ] * 2


def test_a_given_function_stops_only_for_the_program_that_is_asked_for(tmp_path: Path) -> None:
    program = built(tmp_path, GCC, "-DOWN")
    # visit() runs for each program, and in bpf_check around do_check.
    asked = "python loads.only(['{}']); entry.break_at('{}')"
    whole = len(stops(program, "python entry.break_at('visit')", times=20))
    assert len(stops(program, asked.format("n", "visit"), times=20)) == whole / 2 > 1
    assert stops(program, asked.format("other", "visit")) == []
    # What runs while no program is verified is not of another one.
    assert len(stops(program, asked.format("other", "load"))) == 2


def test_a_given_line(tmp_path: Path) -> None:
    text = (VERIFIER / "kernel/bpf/verifier.c").read_text()
    line = 1 + text.splitlines().index("\tbegun = 1;")
    place = f"python entry.break_at('kernel/bpf/verifier.c:{line}')"
    assert len(stops(built(tmp_path, GCC, "-DOWN"), place)) == 2


def test_the_state_is_found_without_a_variable(tmp_path: Path) -> None:
    find = (
        "python from bpfmatrix_in_gdb import loads, state_search; "
        "state_search._KERNEL = 0; "  # this program runs in user space
        "print('state', hex(state_search.address(loads.current())))"
    )
    [text] = stops(built(tmp_path, GCC, "-DINLINED"), ENTRY, show=find, times=1)
    found = re.search(r"^state (0x\w+)$", text, re.M)
    assert found, text
    assert f"do_check (env={found[1]} " in text


def test_why_gdb_never_stops_at_an_instruction_is_said_once(tmp_path: Path) -> None:
    lines = said(
        built(tmp_path, GCC, "-DOWN"),
        "python for n in (1, 2, 9): program_stop.break_at(n)",
    ).splitlines()
    # Not of the program without a name, which is not asked for.
    assert [line for line in lines if "can't stop" in line] == [
        "gdb can't stop at instruction 1 of n: that is the second half of instruction 0",
        "gdb can't stop at instruction 2 of n: it has the instructions 0 to 1",
        "gdb can't stop at instruction 9 of n: it has the instructions 0 to 1",
    ]


def test_breakpoints_are_set_quietly(tmp_path: Path) -> None:
    quietly = f"python stops.quietly({ENTRY!r})"
    text = said(built(tmp_path, GCC, "-DOWN"), quietly)
    assert "Breakpoint 1, do_check" in text
    assert "Breakpoint 1 at" not in text
    assert "Breakpoint 1 at" in said(tmp_path / "program", ENTRY)
