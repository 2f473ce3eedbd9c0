"""The logs that a result names: its console, the output of its tests, and verifier logs.

A log is read only from the folder of its result. A result may come from another machine, so that
its paths are not trusted: it can't name another file of this machine.
"""

from pathlib import Path

from bpfmatrix.report.model import Result

__all__ = ["read_log"]

# A log is such as `.bpfmatrix/results/6.1/console.log`, and its result is in `.bpfmatrix/results`.
_FOLDERS_ABOVE = 2


def read_log(result: Result, name: str, limit_bytes: int) -> bytes | None:
    """Return a log that a result names, or None if it is missing or can't be read.

    A log of more than `limit_bytes` is cut to its beginning and its end, because a console may have
    16 MiB.
    """
    path = _path(result, name)
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


def _path(result: Result, name: str) -> Path | None:
    below = Path(name).parts[_FOLDERS_ABOVE:]
    if not result.folder or not below or ".." in below or Path(name).is_absolute():
        return None
    try:
        folder = result.folder.resolve()
        path = folder.joinpath(*below).resolve()
    except (
        OSError,
        ValueError,
        RuntimeError,
    ):  # the name has a NUL, or a link leads back to itself
        return None
    return path if path.is_relative_to(folder) else None
