"""The task `report`: the results of earlier runs, in another form."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import UsageError
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import without_commands

if TYPE_CHECKING:
    from bpfmatrix.report.model import Result

__all__ = ["report"]

take_words("report", options.FILES)


@option_task(
    options.FILES,
    options.FORMAT,
    options.OUTPUT.with_help(
        "The file to write. Default: the report is printed; HTML goes into .bpfmatrix/report.html."
    ),
)
def report(values: Values) -> None:
    """Show the results of runs and verifications: as a table, JSON, JUnit, Markdown or HTML."""
    from bpfmatrix.cli.console import say
    from bpfmatrix.config.project import Project
    from bpfmatrix.report import formats, inputs
    from bpfmatrix.report.origin import ReportOrigin

    project = Project.load()
    path = values[options.OUTPUT]
    format = formats.choose(values[options.FORMAT] or "", str(path or ""))
    files = [*values[options.FILES], *map(Path, values.arguments)]
    results = inputs.read(files or inputs.last_results(project))
    if not results:
        raise UsageError("there are no results yet", f"Run: {command('matrix')}")
    if path is None and format == "html":
        path = project.state / "report.html"
    if path is None:
        _print(format, results)
        return
    origin = ReportOrigin.of(project, {result.run.kernel for result in results})
    size = formats.write(format, results, path, origin)
    say(f"{project.relative(path.resolve())}  {size / 1e3:.0f} kB")


def _print(format: str, results: "Sequence[Result]") -> None:
    from bpfmatrix.cli.console import make_console
    from bpfmatrix.report import formats, table
    from bpfmatrix.report.matrix import Matrix

    if format == "table":
        console = make_console()
        console.print(table.render(Matrix.of(results), console.width))
    else:
        text = formats.render(format, results)
        # Two `#` are only in strings of JSON, where the first one can be escaped.
        is_json = format == "json"
        sys.stdout.write(text.replace("##", "\\u0023#") if is_json else without_commands(text))
