"""The columns of results: what `--filter`, `--sort` and `--csv` can name.

A column has veristat's name where it means the same as veristat's, and then its other names too
(tools/testing/selftests/bpf/veristat.c of Linux, `stat_defs`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from bpfmatrix.errors import suggestion
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification

__all__ = ["COLUMNS", "Column", "Value", "column", "verdict_of"]

Value = str | int | None
"""A cell: None is a number that is not known; a text that is not known is empty."""

# The codes of programs that the kernel loaded, and that fail for another reason.
_LOADED = (Code.TOO_CLOSE, Code.ATTACH_FAILED)
# The codes of programs that no kernel was asked about.
_UNTRIED = (Code.DECLARED, Code.NOT_RUN)


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    value: Callable[[Verification, ProgramResult], Value]
    aliases: tuple[str, ...] = ()
    number: bool = False
    """Whether its values are numbers. They are sorted from the largest on, and texts from A on."""


def verdict_of(result: ProgramResult) -> str:
    """Return veristat's verdict: `success` if the kernel loaded the program, else `failure`.

    It is empty for a program that was not tried.
    """
    if result.outcome is Outcome.PASSED or result.code in _LOADED:
        return "success"
    return "" if result.code in _UNTRIED else "failure"


def _attached(result: ProgramResult) -> str:
    return "" if result.attached is None else str(result.attached).lower()


COLUMNS = (
    Column("file_name", lambda _, p: PurePath(p.object).name, ("filename", "file")),
    Column("prog_name", lambda _, p: p.program, ("progname", "prog")),
    Column("verdict", lambda _, p: verdict_of(p)),
    Column("duration", lambda _, p: p.statistics.verifier_us, ("dur",), number=True),
    Column(
        "total_insns",
        lambda _, p: p.statistics.instructions_processed,
        ("insns",),
        number=True,
    ),
    Column("total_states", lambda _, p: p.statistics.total_states, ("states",), number=True),
    Column("peak_states", lambda _, p: p.statistics.peak_states, number=True),
    Column(
        "max_states_per_insn", lambda _, p: p.statistics.max_states_per_instruction, number=True
    ),
    Column("prog_size", lambda _, p: p.statistics.program_instructions, number=True),
    Column("prog_size_jited", lambda _, p: p.statistics.jited_bytes, number=True),
    Column("prog_type", lambda _, p: p.type, ("type",)),
    Column("stack_depth", lambda _, p: p.statistics.stack_depth, ("stack",), number=True),
    # veristat has none of these.
    Column("memory", lambda _, p: p.statistics.memory_bytes, number=True),
    Column("kernel", lambda one, _: one.kernel),
    Column("version", lambda one, _: one.version),
    Column("arch", lambda one, _: one.arch),
    Column("loader", lambda _, p: p.loader),
    Column("preset", lambda _, p: p.preset),
    Column("object", lambda _, p: p.object),
    Column("section", lambda _, p: p.section),
    Column("attach_to", lambda _, p: p.attach_to),
    Column("attached", lambda _, p: _attached(p)),
    Column("outcome", lambda _, p: str(p.outcome)),
    Column("code", lambda _, p: str(p.code or "")),
    Column("errno", lambda _, p: p.errno),
    Column("reason", lambda _, p: p.reason),
    Column("expected", lambda _, p: p.expected),
)
"""All columns, in the order of a CSV file."""

_BY_NAME = {name: each for each in COLUMNS for name in (each.name, *each.aliases)}


def column(name: str) -> Column:
    """Return the column of this name; ValueError if there is none."""
    known = _BY_NAME.get(name)
    if known is None:
        raise ValueError(f'there is no column "{name}"{suggestion(name, _BY_NAME)}')
    return known
