"""The files that a report is made from.

A file holds the result of one kernel (`matrix` or `verify`) or the results of several (`verify
--save`, `report --format json`). It may come from another checkout, or from an artifact of CI that
has only a part of `.bpfmatrix`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.report.model import Result
from bpfmatrix.results import files
from bpfmatrix.results.checked import checked, load_json

__all__ = ["MERGED_SCHEMA", "last_results", "read"]

MERGED_SCHEMA = 1
"""The schema of a file with the results of several kernels."""


def last_results(project: Project) -> list[Path]:
    """Return the files with the last results of each kernel of a project."""
    folders = (project.results, files.verification_folder(project))
    return [path for folder in folders for path in sorted(folder.glob("*.json"))]


def read(paths: Iterable[Path]) -> list[Result]:
    """Read the results from files, and from all JSON files in folders.

    UsageError names a file that can't be read or is no result, and a folder that has no result. In
    a folder, other JSON files are ignored.
    """
    results: list[Result] = []
    for path in dict.fromkeys(paths):
        if path.is_dir():
            inside = [found for file in _json_files(path) for found in _read(file, strict=False)]
            if not inside:
                raise UsageError(f"{path}: there are no results in this folder")
            results += inside
        else:
            results += _read(path, strict=True)
    return results


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json") if not path.name.startswith("."))


def _read(path: Path, strict: bool) -> Iterator[Result]:
    try:
        data = load_json(path.read_text(encoding="utf-8"))
        is_single = isinstance(data, dict) and "kernel" in data
        found = [checked(each) for each in ([data] if is_single else _merged(data))]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        if not strict:
            return
        advice = "Name a result of matrix or verify, such as .bpfmatrix/results/<kernel>.json."
        raise UsageError(f"{path} is not a file of results: {error}", advice) from None
    yield from (Result(run, path.parent, str(path)) for run in found)


def _merged(data: Any) -> Sequence[Any]:
    """Return the results in a file of several: of `report --format json` or `verify --save`."""
    if isinstance(data, dict) and data.get("schema") == MERGED_SCHEMA:
        parts = [data.get(key, []) for key in ("runs", "verifications")]
        if all(isinstance(part, list) for part in parts) and any(parts):
            return [result for part in parts for result in part]
    raise ValueError("it has no kernel")
