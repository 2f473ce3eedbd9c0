"""The task that shows results of earlier runs: report."""

from pathlib import Path
from typing import Any

from invoke.context import Context

from bpfmatrix.cli.tasks import words
from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError

__all__ = ["report"]

words.take("report", "files")


@bpfmatrix_task(
    iterable=["files"],
    help={"output": "The file to write. Default: what is printed; .bpfmatrix/report.html."},
)
def report(c: Context, files: Any = None, format: str = "", output: str = "") -> None:
    """Show results of matrix and verify: as a table, JSON, JUnit, Markdown or HTML."""
    from bpfmatrix.report import collect, render  # noqa: PLC0415 - `invoke -l` stays fast

    project = Project.load()
    given = [Path(name) for name in (*(files or ()), *behind_dashes())]
    found = collect.collect(given or collect.own(project))
    if not found:
        raise UsageError("there are no results yet", "Run: nox -s matrix")
    asked = render.named(format, output)
    if asked == "html" and not output:
        output = str(project.state / "report.html")
    if not output:
        render.show(asked, found)
        return
    size = render.write(asked, found, Path(output), project.root.name)
    print(f"{project.relative(Path(output).resolve())}  {size / 1e3:.0f} kB")
