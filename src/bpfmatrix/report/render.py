"""The forms of a report by their names: which one is meant, and what it comes to."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from bpfmatrix.errors import BpfmatrixError, UsageError, suggestion
from bpfmatrix.report.collect import MERGED_SCHEMA
from bpfmatrix.report.model import Kind, Matrix, Result

__all__ = ["FORMATS", "merged", "named", "text", "write"]

FORMATS = ("table", "json", "junit", "markdown", "html")
_SUFFIXES = {".json": "json", ".xml": "junit", ".md": "markdown", ".html": "html", ".htm": "html"}


def named(format: str, output: str) -> str:
    """Return the form that is asked for, or that the file's name says; UsageError if none is."""
    if not format:
        return _SUFFIXES.get(PurePath(output).suffix.lower(), "table")
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(f"--format {format}: no such format{suggestion(format, FORMATS)}", known)
    return format


def text(format: str, results: Sequence[Result], title: str = "") -> str:
    """Return the report. `title` is what an HTML page is about, such as the project's name."""
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

            return html.render(matrix, title)
    return table.to_text(matrix)


def merged(results: Sequence[Result]) -> dict[str, object]:
    """Return all results as one object, which `collect` reads again."""
    parts = {Kind.TEST: "runs", Kind.PROGRAM: "verifications"}
    return {"schema": MERGED_SCHEMA} | {
        name: [dataclasses.asdict(result.found) for result in results if result.kind is kind]
        for kind, name in parts.items()
    }


def write(format: str, results: Sequence[Result], path: Path, title: str = "") -> int:
    """Write a report, as a whole or not at all; returns its size in bytes."""
    data = text(format, results, title).encode("utf-8", errors="backslashreplace")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BpfmatrixError(f"--output {path}: {error.strerror}") from None
    return len(data)
