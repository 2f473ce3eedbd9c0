"""Results of `invoke verify` as CSV: a line for each program on each kernel.

Texts of objects and kernels have no control characters in it, as the file may be printed.
"""

import csv
import io
from collections.abc import Iterator, Sequence

from bpfmatrix.host.text import inert
from bpfmatrix.results.verification import Verification
from bpfmatrix.verify.columns import COLUMNS
from bpfmatrix.verify.selection import Selection

__all__ = ["as_csv"]


def as_csv(found: Sequence[Verification], selection: Selection) -> str:
    """Return the results that are chosen, with a line of the columns' names first.

    A number that is not known is an empty cell. A file that no loader was given has a line without
    a program and a kernel, at the end, unless only some results are chosen.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
    results = [(one, program) for one in found for program in one.programs]
    for result in selection.of(results, lambda each: [each]):
        values = (column.value(*result) for column in COLUMNS)
        writer.writerow(["" if value is None else inert(str(value)) for value in values])
    if not selection.comparisons and selection.top is None:
        writer.writerows(_refused(found))
    return written.getvalue()


def _refused(found: Sequence[Verification]) -> Iterator[list[str]]:
    # They are the same for all kernels.
    for one in found[0].refused if found else ():
        known = {
            "file_name": one.object.rpartition("/")[2],
            "verdict": "failure",
            "object": one.object,
            "outcome": "error",
            "code": str(one.code),
            "reason": one.reason,
        }
        yield [inert(known.get(column.name, "")) for column in COLUMNS]
