"""The table that `invoke report` prints: counts for each kernel, and the rows that did not pass.

Where the kernels do not fit beside each other, they are listed one below the other, and each row
that did not pass names the kernels of each outcome.
"""

import itertools
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bpfmatrix.report.failures import by_mark
from bpfmatrix.report.kernel_table import kernel_table, table_width
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Kind, Row
from bpfmatrix.report.wording import counts, duration, headline, mark, plain
from bpfmatrix.results.kernel_label import heading
from bpfmatrix.results.outcome import Outcome

__all__ = ["PIPE_WIDTH", "render", "to_text"]

PIPE_WIDTH = 200
"""The width of a table that is written to a file or a pipe, in characters."""
_STYLES = {Outcome.PASSED: "green", Outcome.SKIPPED: "yellow"}
_MARK_STYLES = {mark(Cell(outcome)): style for outcome, style in _STYLES.items()}
_MEANINGS = {mark(Cell(outcome)): str(outcome) for outcome in Outcome}


def render(matrix: Matrix, width: int = PIPE_WIDTH) -> RenderableType:
    """Return the table in at most `width` characters, for rich to print.

    Only a single name that is longer than that makes a longer line.
    """
    end = Text(plain(headline(matrix)))
    if not matrix.columns:
        return end
    rows = matrix.notable_rows
    whole = _one_table(matrix, rows)
    if table_width(whole) <= width:
        return Group(whole, *_legend(matrix, rows), end)
    labels = [_inline(column.label) for column in matrix.columns]
    listed = _row_list(matrix, rows, width) if rows else []
    return Group(kernel_table(labels, _facts(matrix), width), *listed, end)


def _facts(matrix: Matrix) -> dict[str, list[Text]]:
    """Return what is shown of each kernel."""
    columns = matrix.columns
    facts = {"outcome": [_styled(c.outcome, str(c.outcome)) for c in columns]}
    for kind in Kind:
        if any(row.kind is kind for row in matrix.rows):
            facts[f"{kind}s"] = [Text(counts(column, kind)) for column in columns]
    return facts | {"time": [Text(duration(column.seconds)) for column in columns]}


def _one_table(matrix: Matrix, rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for column in matrix.columns:
        table.add_column(Text(heading(_inline(column.label))))
    for name, values in _facts(matrix).items():
        table.add_row(Text(name), *values)
    for row in rows:
        table.add_row(_name(row), *(_mark(cell) for cell in matrix.row(row)))
    return table


def _row_list(matrix: Matrix, rows: list[Row], width: int) -> Iterator[RenderableType]:
    """Yield the rows that did not pass everywhere, each with the kernels of each outcome."""
    yield Text("")
    yield Text("not passed everywhere", "bold")
    for group, same in itertools.groupby(rows, key=lambda row: (row.kind, row.group)):
        yield Text(f"  {_inline(group[1])}", "dim")
        for row in same:
            yield from _listed(matrix, row, width)
    yield Text("")
    yield from _legend(matrix, rows, blanks=False)


def _listed(matrix: Matrix, row: Row, width: int) -> Iterator[RenderableType]:
    """Yield a row with its kernels: in one line if that is possible."""
    parts = []
    for sign, named in by_mark(matrix, row).items():
        style = _MARK_STYLES.get(sign, "yellow" if sign.endswith("*") else "red")
        parts.append(Text.assemble((sign, style), f" {_inline(named)}"))
    name = Text(f"    {_inline(row.name)}")
    line = Text("   ").join([name, *parts])
    if line.cell_len <= width:
        yield line
        return
    yield name
    yield from (Padding(part, (0, 0, 0, 8)) for part in parts)


def _legend(matrix: Matrix, rows: list[Row], blanks: bool = True) -> list[Text]:
    """Return what the signs of the shown rows mean, in one line; nothing if there are no rows."""
    shown = {mark(cell) for row in rows for cell in matrix.row(row) if cell}
    words = [f"{sign} {word}" for sign, word in _MEANINGS.items() if shown & {sign, f"{sign}*"}]
    words += ["* as kernels.yaml expects"] if any("*" in sign for sign in shown) else []
    words += ["blank: not run"] if blanks and any(None in matrix.row(row) for row in rows) else []
    return [Text(", ".join(words), "dim")] if rows else []


def _name(row: Row) -> Text:
    return Text.assemble((_inline(row.group), "dim"), "  ", _inline(row.name))


def _mark(cell: Cell | None) -> Text:
    return _styled(cell.outcome, mark(cell), bool(cell.expected)) if cell else Text("")


def _inline(text: str) -> str:
    return " ".join(plain(text).splitlines())


def to_text(matrix: Matrix, width: int = PIPE_WIDTH) -> str:
    """Return the table as plain text, without colours."""
    console = Console(
        width=width, no_color=True, highlight=False, soft_wrap=True, force_terminal=False
    )
    with console.capture() as capture:
        console.print(render(matrix, width))
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def _styled(outcome: Outcome, text: str, expected: bool = False) -> Text:
    return Text(text, "yellow" if expected else _STYLES.get(outcome, "red"))
