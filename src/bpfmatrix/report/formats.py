"""The formats of a report: which one the user asks for, and the report in that format."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path, PurePath

from bpfmatrix.errors import BpfmatrixError, UsageError, suggestion
from bpfmatrix.host.whole_file import write_whole
from bpfmatrix.report.inputs import MERGED_SCHEMA
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Kind, Result
from bpfmatrix.report.origin import ReportOrigin

__all__ = ["FORMATS", "choose", "merged", "render", "write"]

FORMATS = ("table", "json", "junit", "markdown", "html")
_UNKNOWN = ReportOrigin()
_SUFFIXES = {
    ".json": "json",
    ".xml": "junit",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
    ".txt": "table",
}


def choose(format: str, output: str) -> str:
    """Return the requested format, by default that of the output file's suffix, else `table`.

    UsageError for an unknown format, or a suffix that is of no format.
    """
    if not format:
        suffix = PurePath(output).suffix.lower()
        if suffix and suffix not in _SUFFIXES:
            raise UsageError(
                f"--output {output}: no format has the suffix {suffix}",
                f"Name a file with {', '.join(_SUFFIXES)}, or the format: --format html.",
            )
        return _SUFFIXES.get(suffix, "table")
    if format not in FORMATS:
        advice = f"The formats are {', '.join(FORMATS)}."
        raise UsageError(f"--format {format}: no such format{suggestion(format, FORMATS)}", advice)
    return format


def render(format: str, results: Sequence[Result], origin: ReportOrigin = _UNKNOWN) -> str:
    """Return the report in a format. `origin` is for HTML only."""
    from bpfmatrix.report import junit, markdown, table  # noqa: PLC0415 - `invoke -l` stays fast

    if format == "json":
        return json.dumps(merged(results), indent=1) + "\n"
    matrix = Matrix.of(results)
    match format:
        case "junit":
            return junit.render(matrix)
        case "markdown":
            return markdown.render(matrix)
        case "html":
            from bpfmatrix.report import html  # noqa: PLC0415 - as above

            return html.render(matrix, origin)
    return table.to_text(matrix)


def merged(results: Sequence[Result]) -> dict[str, object]:
    """Return all results as one JSON object, which `inputs.read` can read."""
    parts = {Kind.TEST: "runs", Kind.PROGRAM: "verifications"}
    return {"schema": MERGED_SCHEMA} | {
        name: [dataclasses.asdict(result.run) for result in results if result.kind is kind]
        for kind, name in parts.items()
    }


def write(
    format: str, results: Sequence[Result], path: Path, origin: ReportOrigin = _UNKNOWN
) -> int:
    """Write a report to a file and return its size in bytes.

    BpfmatrixError if the file can't be written; an existing file then stays as it is.
    """
    data = render(format, results, origin).encode("utf-8", errors="backslashreplace")
    try:
        write_whole(path, data)
    except OSError as error:
        raise BpfmatrixError(f"--output {path}: {error.strerror}") from None
    return len(data)
