"""The table that `invoke report` prints: counts for each kernel, and the rows that did not pass."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Kind
from bpfmatrix.report.wording import counts, duration, headline, mark, plain
from bpfmatrix.results.kernel_label import heading
from bpfmatrix.results.outcome import Outcome

__all__ = ["render"]

_STYLES = {Outcome.PASSED: "green", Outcome.SKIPPED: "yellow"}


def render(matrix: Matrix) -> RenderableType:
    """Return the table, for rich to print."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for column in matrix.columns:
        table.add_column(Text(heading(plain(column.label))))
    table.add_row("outcome", *(_styled(c.outcome, str(c.outcome)) for c in matrix.columns))
    for kind in Kind:
        if any(row.kind is kind for row in matrix.rows):
            table.add_row(f"{kind}s", *(counts(column, kind) for column in matrix.columns))
    table.add_row("time", *(duration(column.seconds) for column in matrix.columns))
    for row in matrix.notable_rows:
        cells = [
            _styled(c.outcome, mark(c), bool(c.expected)) if c else Text("")
            for c in matrix.row(row)
        ]
        name = Text.assemble((plain(row.group), "dim"), "  ", plain(row.name).replace("\n", " "))
        table.add_row(name, *cells)
    return Group(table, Text(plain(headline(matrix)))) if matrix.columns else Text(headline(matrix))


def to_text(matrix: Matrix) -> str:
    """Return the table as plain text, without colours and without a limit of its width."""
    console = Console(
        width=10_000, no_color=True, highlight=False, soft_wrap=True, force_terminal=False
    )
    with console.capture() as capture:
        console.print(render(matrix))
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def _styled(outcome: Outcome, text: str, expected: bool = False) -> Text:
    return Text(text, "yellow" if expected else _STYLES.get(outcome, "red"))
