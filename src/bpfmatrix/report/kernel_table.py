"""A table of facts by kernel that fits a width: `matrix` and `report` print it.

Kernels are columns if they all fit beside each other. Otherwise they are rows, one below the other,
so that no label of a kernel is cut, however many kernels there are.
"""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bpfmatrix.results.kernel_label import heading

__all__ = ["GAP", "kernel_table", "table_width"]

GAP = 3
"""The blanks between two columns."""


def kernel_table(labels: Sequence[str], facts: Mapping[str, Sequence[Text]], width: int) -> Table:
    """Return the table. `facts` has a sequence for each name, with a text for each kernel.

    `width` is in characters.
    """
    columns = _table("", *map(heading, labels))
    for name, values in facts.items():
        columns.add_row(name, *values)
    if table_width(columns) <= width:
        return columns
    rows = _table("", *facts)
    for number, label in enumerate(labels):
        rows.add_row(label, *(values[number] for values in facts.values()))
    return rows


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for text in headings:
        # A Text, as a name may have brackets, which are markup in a str.
        table.add_column(Text(text), overflow="fold")
    return table


def table_width(table: Table) -> int:
    """Return how many characters the longest line of a table of texts without lines has."""
    widths = []
    for column in table.columns:
        texts = [str(column.header), *(str(cell) for cell in column.cells)]
        widths.append(max(cell_len(line) for text in texts for line in text.splitlines() or [""]))
    return sum(widths) + GAP * (len(widths) - 1)
