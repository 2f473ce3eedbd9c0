"""The files that a report is made from.

A file holds the result of one kernel (`matrix` or `verify`) or the results of several (`verify
--save`, `report --format json`). It may come from another checkout, or from an artifact of CI that
has only a part of `.bpfmatrix`.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.report.model import Result
from bpfmatrix.results import files, kernel_run, verification
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.verification import Verification

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
        data = json.loads(path.read_text(encoding="utf-8"))
        is_single = isinstance(data, dict) and "kernel" in data
        results = [_result(each, path) for each in ([data] if is_single else _merged(data))]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if not strict:
            return
        advice = "Name a result of matrix or verify, such as .bpfmatrix/results/<kernel>.json."
        raise UsageError(f"{path} is not a file of results: {error}", advice) from None
    yield from results


def _merged(data: Any) -> Sequence[Any]:
    """Return the results in a file of several: of `report --format json` or `verify --save`."""
    if isinstance(data, dict) and data.get("schema") == MERGED_SCHEMA:
        parts = [data.get(key, []) for key in ("runs", "verifications")]
        if all(isinstance(part, list) for part in parts) and any(parts):
            return [result for part in parts for result in part]
    raise ValueError("it has no kernel")


def _result(data: Any, path: Path) -> Result:
    """Make a result from its JSON; ValueError if a value is missing or has a wrong type."""
    is_verification = isinstance(data, dict) and "programs" in data
    schema = verification.SCHEMA if is_verification else kernel_run.SCHEMA
    if not isinstance(data, dict) or data.get("schema") != schema:
        raise ValueError(f"it is not of schema {schema}")
    try:
        # Unknown keys are ignored, as a newer version may have added some.
        run: Any = _adapter(Verification if is_verification else KernelRun).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        kind = "is missing" if first["type"] == "missing" else "can't have this value"
        raise ValueError(f"{where} {kind}") from None
    return Result(run, path.parent, str(path))


@functools.cache
def _adapter(model: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model)
