"""The files that a report is made from, found and read.

A file holds one kernel's result (`matrix` or `verify`), those of many (`verify --save`, `report
--format json`), and may come from elsewhere: another checkout, or an artifact of CI, of which only
the folder below `.bpfmatrix` was kept. Logs are looked for beside their result, and nowhere else: a
result that somebody sent names no other file of this machine.
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

__all__ = ["MERGED_SCHEMA", "collect", "own", "read_log"]

MERGED_SCHEMA = 1
# Of `.bpfmatrix/results/6.1/console.log`, all but the first two is below the result's own folder.
_FOLDERS_ABOVE = 2


def own(project: Project) -> list[Path]:
    """Return the files of the last results of each kernel of a project."""
    folders = (project.results, files.verification_folder(project))
    return [path for folder in folders for path in sorted(folder.glob("*.json"))]


def collect(paths: Iterable[Path]) -> list[Result]:
    """Read results from files, and from all such files in folders.

    UsageError names a file that is none. In a folder, what is no result is passed over.
    """
    found: list[Result] = []
    for path in dict.fromkeys(paths):
        if path.is_dir():
            inside = [result for file in _json_files(path) for result in _read(file, strict=False)]
            if not inside:
                raise UsageError(f"{path}: there are no results in this folder")
            found += inside
        else:
            found += _read(path, strict=True)
    return found


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json") if not path.name.startswith("."))


def _read(path: Path, strict: bool) -> Iterator[Result]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        whole = [data] if isinstance(data, dict) and "kernel" in data else _merged(data)
        read = [_one(part, path) for part in whole]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if not strict:
            return
        advice = "A result is what matrix and verify leave: .bpfmatrix/results/<kernel>.json"
        raise UsageError(f"{path}: no result that can be read ({error})", advice) from None
    yield from read


def _merged(data: Any) -> Sequence[Any]:
    """Return the parts of a file with several results: `report --format json`, `verify --save`."""
    if isinstance(data, dict) and data.get("schema") == MERGED_SCHEMA:
        parts = [data.get(key, []) for key in ("runs", "verifications")]
        if all(isinstance(part, list) for part in parts) and any(parts):
            return [one for part in parts for one in part]
    raise ValueError("it has no kernel")


def _one(data: Any, path: Path) -> Result:
    """Make a result of its JSON, all of whose values have the types that they should have."""
    is_program = isinstance(data, dict) and "programs" in data
    schema = verification.SCHEMA if is_program else kernel_run.SCHEMA
    if not isinstance(data, dict) or data.get("schema") != schema:
        raise ValueError(f"it is not of schema {schema}")
    try:
        # Keys that a newer version may have are passed over.
        found: Any = _adapter(Verification if is_program else KernelRun).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}") from None
    return Result(found, path.parent, str(path))


@functools.cache
def _adapter(model: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def read_log(result: Result, name: str, limit_bytes: int) -> bytes | None:
    """Return the begin and the end of a log that a result names, or None where it is not there.

    At most about `limit_bytes` of it: a console may have 16 MiB.
    """
    path = _beside(result, name)
    try:
        if path is None or not path.is_file():
            return None
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= limit_bytes:
                return file.read()
            head = file.read(limit_bytes // 2)
            file.seek(size - limit_bytes // 2)
            missing = size - 2 * (limit_bytes // 2)
            return head + f"\n... {missing} bytes left out ...\n".encode() + file.read()
    except (OSError, ValueError):
        return None


def _beside(result: Result, name: str) -> Path | None:
    below = Path(name).parts[_FOLDERS_ABOVE:]
    if not result.folder or not below or ".." in below or Path(name).is_absolute():
        return None
    try:
        folder = result.folder.resolve()
        path = folder.joinpath(*below).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or links in a circle
        return None
    return path if path.is_relative_to(folder) else None
