"""Reads code objects out of archives: zip files, and what PyInstaller makes of a program.

A zip file with modules (`zipimport`, .pyz, .egg, .whl) has .py and .pyc files. PyInstaller appends
an archive (a CArchive) to its bootloader, or puts it into a section of it. The archive has the
program's scripts and a further archive (a PYZ) with its modules. The formats are those of
PyInstaller/archive/readers.py in PyInstaller 6:

    CArchive  members; the table of contents; at its end the cookie: the magic, and big-endian the
              archive's length, the table's offset and length, Python's version (311 for 3.11), and
              64 bytes with the name of Python's library.
    its table entries: their own length, and the offset, length and uncompressed length of a member
              (4 bytes each), whether zlib has compressed it, its type (1 byte each), and its name.
    PYZ       "PYZ", a zero, the magic number of .pyc files (4 bytes), the offset of its table of
              contents (4 bytes, big-endian). The table is a marshalled list of (name, (type,
              offset, length)). Each member is a marshalled code object, compressed by zlib.
"""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from bytecode_lines.errors import PycError
from bytecode_lines.marshalled import MarshalError, RawCode, read, read_values
from bytecode_lines.pyc import source_name, version_of

__all__ = [
    "PYINSTALLER",
    "ZIP",
    "PackedCode",
    "kind_of",
    "pyinstaller_codes",
    "source_of_member",
    "zip_members",
]

_ZIP_SUFFIXES: Final = {".zip", ".pyz", ".pyzw", ".egg", ".whl", ".pex"}
_COOKIE_MAGIC: Final = b"MEI\014\013\012\013\016"
_COOKIE: Final = struct.Struct("!8sIIII64s")
_ENTRY: Final = struct.Struct("!IIIIBc")
_PYZ: Final = struct.Struct("!4s4sI")


class PackedCode(NamedTuple):
    """A code object of an archive of PyInstaller."""

    name: str
    code: RawCode
    version: tuple[int, int]


def kind_of(path: Path, is_named: bool = False) -> str:
    """Return `ZIP` or `PYINSTALLER`, or an empty text for a file that is no archive with code.

    In a folder, zip files are known by the ends of their names, and of other files only those that
    can be executed are read; `is_named` is for a file that the user has named. PycError if the file
    can't be read, or if its name is that of a zip file and it is none.
    """
    is_zip = path.suffix in _ZIP_SUFFIXES
    if not (is_zip or is_named or os.access(path, os.X_OK)):
        return ""
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for what it may not read
        if is_zip or is_named:
            raise PycError(f"{path}: not a regular file")
        return ""
    try:
        with path.open("rb") as file:
            if is_zip:
                if zipfile.is_zipfile(file):
                    return ZIP
                raise PycError(f"{path}: not a zip file")
            if _has_cookie(file):
                return PYINSTALLER
            return ZIP if is_named and zipfile.is_zipfile(file) else ""
    except OSError as error:
        raise PycError(f"{path}: {error.strerror or error}") from None


ZIP: Final = "zip"
PYINSTALLER: Final = "PyInstaller"


def source_of_member(name: str) -> str:
    """Return the name of the source of a .pyc file in a zip file."""
    folder, slash, base = name.rpartition("/")
    parent, slash_of_parent, last = folder.rpartition("/")
    if last == "__pycache__":
        return f"{parent}{slash_of_parent}{source_name(base)}"
    return f"{folder}{slash}{base[: -len('.pyc')]}.py"


def zip_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names of a zip file's .py and .pyc files, with their content.

    PycError if the file, or a member, can't be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith((".py", ".pyc")):
                    yield info.filename, archive.read(info)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise PycError(f"{path}: the zip file can't be read: {error}") from None


def _has_cookie(file: BinaryIO) -> bool:
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.rfind(_COOKIE_MAGIC) >= 0
    except ValueError:  # an empty file
        return False


def pyinstaller_codes(path: Path) -> Iterator[PackedCode]:
    """Yield the code objects of a program that PyInstaller has made; PycError if it is damaged."""
    try:
        content = path.read_bytes()
        for kind, name, data, version in _members(content):
            if kind == b"s":
                yield PackedCode(name, read(data, version), version)
            elif kind == b"z":
                yield from _pyz(data)
    except (OSError, struct.error, zlib.error, MarshalError, ValueError) as error:
        raise PycError(f"{path}: its archive of PyInstaller can't be read: {error}") from None


def _members(content: bytes) -> Iterator[tuple[bytes, str, bytes, tuple[int, int]]]:
    """Yield type, name and content of the members of a CArchive, and the version of Python."""
    at = content.rfind(_COOKIE_MAGIC)
    if at < 0:
        raise ValueError("there is none")
    _, length, table, table_length, python, _ = _COOKIE.unpack_from(content, at)
    version = (python // 100, python % 100)
    begin = at + _COOKIE.size - length
    at = begin + table
    while at < begin + table + table_length:
        size, offset, stored, _, is_compressed, kind = _ENTRY.unpack_from(content, at)
        if size <= _ENTRY.size:
            raise ValueError("an entry of its table of contents is too short")
        name = content[at + _ENTRY.size : at + size].rstrip(b"\0").decode("utf-8", "replace")
        data = content[begin + offset : begin + offset + stored]
        yield kind, name, zlib.decompress(data) if is_compressed else data, version
        at += size


def _pyz(content: bytes) -> Iterator[PackedCode]:
    magic, pyc_magic, table = _PYZ.unpack_from(content)
    version = version_of(int.from_bytes(pyc_magic[:2], "little"))
    if magic != b"PYZ\0" or version is None:
        raise ValueError("its modules are of an unknown version of Python")
    for entry in read_values(content[table:], version):
        name, (_, offset, length) = entry
        if length:  # a namespace package has none
            code = read(zlib.decompress(content[offset : offset + length]), version)
            yield PackedCode(name, code, version)
