"""Reads .pyc files of CPython 2.7 to 3.14.

A .pyc is a header and a marshalled code object (`bytecode_lines.marshalled`). PEP 552 and
`importlib/_bootstrap_external.py` define the formats of the header.
"""

from __future__ import annotations

import importlib.util
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bytecode_lines.errors import PycError
from bytecode_lines.marshalled import MarshalError, RawCode, read

__all__ = ["Pyc", "load", "parse", "source_name", "version_of"]

_ADVICE: Final = "Compile the source again: python -m compileall FILE.py"


@dataclass(frozen=True)
class Pyc:
    """The content of a .pyc file."""

    code: RawCode
    version: tuple[int, int]
    source_seconds: int | None
    """When the source was last changed, modulo 2 to the power of 32; None if there is a hash."""
    source_size_bytes: int | None
    """The size of the source, likewise; None for Python 2, too."""
    source_hash: bytes | None
    """The hash of the source, which a .pyc has in place of time and size."""

    def older_than(self, source: Path) -> bool:
        """Return whether the source has changed since it was compiled."""
        try:
            if self.source_hash is not None:
                return importlib.util.source_hash(source.read_bytes()) != self.source_hash
            stat = source.stat()
        except OSError:
            return False
        if self.source_seconds != int(stat.st_mtime) & 0xFFFFFFFF:
            return True
        return self.source_size_bytes not in {None, stat.st_size & 0xFFFFFFFF}


def load(path: str | os.PathLike[str]) -> Pyc:
    """Read a .pyc file; PycError if it is not one, is damaged, or is of an unknown Python."""
    try:
        return parse(str(path), Path(path).read_bytes())
    except OSError as error:
        raise PycError(f"{path}: {error.strerror or error}") from None


def source_name(name: str) -> str:
    """Return the name of the source of a file in a `__pycache__`, as PEP 3147 and 488 define it.

    That of `a.b.cpython-311.opt-1.pyc` is `a.b.py`.
    """
    base = name[: -len(".pyc")]
    before, _, last = base.rpartition(".")
    if last.startswith("opt-"):
        base = before
    return f"{base.rpartition('.')[0] or base}.py"


def version_of(magic: int) -> tuple[int, int] | None:
    """Return the version of CPython for a magic number; None if it is unknown."""
    for first, last, version in _MAGIC:
        if first <= magic <= last:
            return version
    return None


# The first and last magic number (the first two bytes of a .pyc) of the releases of each version,
# from Include/internal/pycore_magic_number.h; in older versions
# Lib/importlib/_bootstrap_external.py, in 2.7 Python/import.c. Alphas and betas have numbers in
# between, and other formats.
_MAGIC: Final = (
    (62211, 62211, (2, 7)),
    (3230, 3230, (3, 3)),
    (3310, 3310, (3, 4)),
    (3350, 3351, (3, 5)),
    (3379, 3379, (3, 6)),
    (3394, 3394, (3, 7)),
    (3413, 3413, (3, 8)),
    (3425, 3425, (3, 9)),
    (3439, 3439, (3, 10)),
    (3495, 3495, (3, 11)),
    (3531, 3531, (3, 12)),
    (3571, 3571, (3, 13)),
    (3627, 3627, (3, 14)),
)


def parse(path: str, content: bytes) -> Pyc:
    """Read the content of a .pyc file, which errors name by `path`; PycError as in `load`."""
    if len(content) < 4 or content[2:4] != b"\r\n":
        raise PycError(f"{path}: not a .pyc file", _ADVICE)
    magic = int.from_bytes(content[:2], "little")
    version = version_of(magic)
    if version is None:
        known = ", ".join(f"{major}.{minor}" for _, _, (major, minor) in _MAGIC)
        raise PycError(
            f"{path}: of an unknown version of Python (magic number {magic})",
            f"The known versions are {known}.",
        )
    seconds, size, hashed, header = _source(path, content, version)
    try:
        code = read(content[header:], version)
    except MarshalError as error:
        raise PycError(f"{path}: damaged: {error}", _ADVICE) from None
    return Pyc(code, version, seconds, size, hashed)


def _source(
    path: str, content: bytes, version: tuple[int, int]
) -> tuple[int | None, int | None, bytes | None, int]:
    """Return the source's time, size and hash from the header, and the length of the header."""
    try:
        if version < (3, 3):
            return (*struct.unpack_from("<I", content, 4), None, None, 8)
        if version < (3, 7):
            seconds, size = struct.unpack_from("<II", content, 4)
            return seconds, size, None, 12
        flags, seconds, size = struct.unpack_from("<III", content, 4)
    except struct.error:
        raise PycError(f"{path}: ends within its header", _ADVICE) from None
    if flags & 1:
        return None, None, content[8:16], 16
    return seconds, size, None, 16
