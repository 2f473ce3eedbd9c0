"""The task that shows results of earlier runs: report."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from bpfmatrix.cli.tasks import words
from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from bpfmatrix.report.model import Result

__all__ = ["report"]

words.take("report", "files")


@bpfmatrix_task(
    iterable=["files"],
    help={"output": "The file to write. Default: what is printed; .bpfmatrix/report.html."},
)
def report(c: Context, files: Any = None, format: str = "", output: str = "") -> None:
    """Show results of matrix and verify: as a table, JSON, JUnit, Markdown or HTML."""
    from bpfmatrix.report import formats, inputs  # noqa: PLC0415 - `invoke -l` stays fast

    project = Project.load()
    given = [Path(name) for name in (*(files or ()), *behind_dashes())]
    found = inputs.read(given or inputs.last_results(project))
    if not found:
        raise UsageError("there are no results yet", "Run: nox -s matrix")
    asked = formats.choose(format, output)
    if asked == "html" and not output:
        output = str(project.state / "report.html")
    if not output:
        _print(asked, found)
        return
    size = formats.write(asked, found, Path(output), project.root.name)
    print(f"{project.relative(Path(output).resolve())}  {size / 1e3:.0f} kB")


def _print(format: str, results: "Sequence[Result]") -> None:
    from bpfmatrix.report import formats  # noqa: PLC0415 - as above

    if format != "table":
        sys.stdout.write(formats.render(format, results))
        return
    from bpfmatrix.cli.console import make_console  # noqa: PLC0415
    from bpfmatrix.report import table  # noqa: PLC0415
    from bpfmatrix.report.matrix import Matrix  # noqa: PLC0415

    make_console().print(table.render(Matrix.of(results)))
