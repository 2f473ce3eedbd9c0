"""The tables of `invoke verify`: programs by kernels, and statistics of one kernel's programs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from bpfmatrix.cli.console import make_table
from bpfmatrix.cli.verify_rows import ProgramRow
from bpfmatrix.results.kernel_label import heading, label_of
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification

__all__ = ["matrix_tables", "shown_bytes", "statistics_tables"]

Mark = Callable[[Outcome], str]
"""Returns the sign of an outcome, such as `✓`."""

# Of a program that a kernel had no turn for, be it that the kernel had no turn: text and style.
_NOT_RUN = ("not run", "dim")
# The spaces between two columns.
_GAP = 3
_LONGEST_SHOWN_PATH = 40
# The columns of a table of statistics, behind the program; those from the third on are numbers.
_STATISTICS = (
    *("type", "", "processed", "of limit", "states", "peak", "stack", "insns", "jited", "memory"),
    "time",
)
_FIRST_NUMBER = 2
Justify = Literal["left", "right"]
# Shorter words for some codes. The whole code is in the explanation below the table.
_SHORT_CODES: Mapping[Code, str] = {
    Code.VERIFIER_REJECTED: "rejected",
    Code.UNSUPPORTED_PROGRAM_TYPE: "no program type",
    Code.UNSUPPORTED_MAP_TYPE: "no map type",
    Code.UNSUPPORTED_HELPER: "no helper",
    Code.UNSUPPORTED_KFUNC: "no kfunc",
    Code.ATTACH_TARGET_MISSING: "no target",
}


def matrix_tables(
    verifications: Sequence[Verification], rows: Sequence[ProgramRow], width: int, mark: Mark
) -> Iterator[Table]:
    """Make tables of programs by kernels: as many as are needed for `width` characters."""
    cells = [
        [
            _cell(result, mark) if result or one.programs else Text(*_NOT_RUN)
            for one, result in zip(verifications, row.cells, strict=True)
        ]
        for row in rows
    ]
    first_column = _width_of_names(rows, width)
    ids = [one.kernel for one in verifications]
    headings = [heading(label_of(one, ids)) for one in verifications]
    widths = [
        max(*map(len, text.splitlines()), 7, *(row[number].cell_len for row in cells))
        for number, text in enumerate(headings)
    ]
    for columns in in_width(widths, width - first_column - _GAP):
        table = _matrix_table(rows, cells, {number: headings[number] for number in columns})
        table.columns[0].max_width = first_column
        seconds = [f"{verifications[number].seconds:.1f} s" for number in columns]
        table.add_row("time", *seconds, style="dim")
        yield table


def _width_of_names(rows: Sequence[ProgramRow], width: int) -> int:
    """Return the width of the column of programs; longer names and paths continue in more lines."""
    names = [len(row.label) + 2 for row in rows]
    names += [min(len(row.object), _LONGEST_SHOWN_PATH) for row in rows]
    return max(len("program"), min(max(names, default=0), width // 2))


def _matrix_table(
    rows: Sequence[ProgramRow],
    cells: Sequence[Sequence[Text]],
    columns: Mapping[int, str],
) -> Table:
    """Make one table; `columns` are the numbers of the cells of its columns, with their heads."""
    table = make_table("program", gap=_GAP)
    for title in columns.values():
        table.add_column(title, no_wrap=True)
    shown_object = ""
    for row, texts in zip(rows, cells, strict=True):
        if row.object != shown_object:
            shown_object = row.object
            table.add_row(Text(row.object, "dim"))
        table.add_row(f"  {row.label}", *(texts[number] for number in columns))
    return table


def in_width(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Divide columns among tables: each gets the next columns that fit, and at least one."""
    columns: list[int] = []
    used = 0
    for number, width in enumerate(widths):
        if columns and used + width + _GAP > room:
            yield columns
            columns, used = [], 0
        columns.append(number)
        used += width + _GAP
    if columns:
        yield columns


def _cell(result: ProgramResult | None, mark: Mark) -> Text:
    if result is None:
        return Text("")
    if result.code is Code.NOT_RUN:
        return Text(*_NOT_RUN)
    sign = mark(result.outcome)
    if result.outcome is Outcome.PASSED:
        instructions = result.statistics.instructions_processed
        words = [sign, f"{instructions:,}"] if instructions is not None else [sign]
        words += ["unexpected"] if result.expected else []
        return Text(" ".join(words), "yellow" if result.expected else "green")
    if result.outcome is Outcome.SKIPPED:
        return Text(f"{sign} {result.code or ''}".rstrip(), "yellow")
    code = _SHORT_CODES.get(result.code, result.code) if result.code else result.outcome
    words = [sign, str(code)]
    words += ["expected"] if result.expected else []
    return Text(" ".join(words), "yellow" if result.expected else "red")


def statistics_tables(rows: Sequence[ProgramRow], width: int, mark: Mark) -> Iterator[Table]:
    """Make tables of what each program of one kernel cost the verifier, and of its size.

    There are as many as are needed for `width` characters, each with all programs.
    """
    rows = [row for row in rows if row.cells[0] is not None]
    cells = [
        [Text(result.type), _state(result, mark), *map(Text, _statistics(result))]
        for row in rows
        for result in row.cells
        if result is not None
    ]
    widths = [
        max(len(title), *(line[number].cell_len for line in cells), 0)
        for number, title in enumerate(_STATISTICS)
    ]
    first_column = _width_of_names(rows, width)
    for columns in in_width(widths, width - first_column - _GAP):
        table = make_table("program", gap=_GAP)
        table.columns[0].max_width = first_column
        for number in columns:
            justify: Justify = "left" if number < _FIRST_NUMBER else "right"
            table.add_column(_STATISTICS[number], justify=justify, no_wrap=True)
        shown_object = ""
        for row, line in zip(rows, cells, strict=True):
            if row.object != shown_object:
                shown_object = row.object
                table.add_row(Text(row.object, "dim"))
            table.add_row(f"  {row.label}", *(line[number] for number in columns))
        yield table


def _state(result: ProgramResult, mark: Mark) -> Text:
    """Return whether a program loaded; its instructions have a column of their own."""
    if result.outcome is not Outcome.PASSED:
        return _cell(result, mark)
    words = [mark(result.outcome)]
    words += ["attached"] if result.attached else []
    words += ["unexpected"] if result.expected else []
    return Text(" ".join(words), "yellow" if result.expected else "green")


def _statistics(result: ProgramResult) -> list[str]:
    found = result.statistics
    processed, limit = found.instructions_processed, found.instructions_limit
    return [
        _number(processed),
        f"{processed / limit:.1%}" if processed is not None and limit else "",
        _number(found.total_states),
        _number(found.peak_states),
        _number(found.stack_depth),
        _number(found.program_instructions),
        shown_bytes(found.jited_bytes),
        shown_bytes(found.memory_bytes),
        f"{found.verifier_us / 1000:,.1f} ms" if found.verifier_us is not None else "",
    ]


def _number(value: int | None) -> str:
    return f"{value:,}" if value is not None else ""


def shown_bytes(value: int | None) -> str:
    """Return a size such as `3.2 KiB`, or nothing for None."""
    if value is None:
        return ""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"
