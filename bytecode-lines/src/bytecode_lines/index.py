"""An index from the identities of code objects to their files, functions and line tables.

It is one SQLite file, which `build` makes for folders. It holds encoded line tables, which are
decoded when they are needed. Several code objects may have the same identity: `Index.entries`
returns all of them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from bytecode_lines import archives
from bytecode_lines.code import AnyCode, LineMap, walk
from bytecode_lines.errors import BytecodeLinesError, TableError
from bytecode_lines.pyc import load, parse, source_name
from bytecode_lines.tables import decode

__all__ = ["Entry", "Index", "Summary", "build"]

# The application id, "byln", identifies the file. The schema version changes with the tables below.
_APPLICATION: Final = 0x62796C6E
_SCHEMA: Final = 1

_TABLES: Final = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,      -- of the source, or if there is none, that of the compiler
    compiled_as TEXT NOT NULL,
    python TEXT NOT NULL,    -- such as 3.11
    changed INTEGER NOT NULL -- whether the source has changed since it was compiled
);
CREATE TABLE codes (
    identity TEXT NOT NULL,
    file INTEGER NOT NULL REFERENCES files,
    name TEXT NOT NULL,      -- qualified
    first_line INTEGER NOT NULL,
    line_table BLOB NOT NULL,
    code_bytes INTEGER NOT NULL,
    implicit_return INTEGER
);
"""


class File(NamedTuple):
    """A source of an index, as one version of Python has compiled it."""

    path: str
    """Of the source."""
    compiled_as: str
    """The source's path as it was passed to the compiler, which is `co_filename` in a process."""
    version: tuple[int, int]
    """Of Python."""
    changed: bool
    """Whether the source has changed since it was compiled."""

    @property
    def python(self) -> str:
        """The version as text."""
        return _version_text(self.version)


class Entry(NamedTuple):
    """A code object of an index."""

    file: File
    name: str
    """The qualified name."""
    first_line: int
    table: bytes
    code_length: int
    implicit_return: int | None

    @property
    def lines(self) -> LineMap:
        """Its lines; TableError if the line table is damaged, which `build` rules out."""
        ranges = decode(self.table, self.file.version, self.first_line, self.code_length)
        return LineMap(ranges, self.first_line, self.code_length, self.implicit_return)


class Index:
    """An index that `build` has written."""

    def __init__(self, path: str | os.PathLike[str], program: str = "bytecode-lines") -> None:
        """Open an index; BytecodeLinesError if the file does not exist or is not an index.

        `program` is the command that an error names as the one that makes an index.
        """
        path = Path(path)
        advice = f"Make one: {program} index DIR -o {path}"
        if not path.is_file():
            raise BytecodeLinesError(f"{path}: no such index", advice)
        self.path = path
        # Path.as_uri would import urllib.request, which needs a whole installation of Python.
        uri = f"file:{urllib.parse.quote(os.fsencode(path.resolve()))}?mode=ro"
        self._database = sqlite3.connect(uri, uri=True)
        try:
            (application,) = self._database.execute("PRAGMA application_id").fetchone()
            (schema,) = self._database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError:
            application = schema = 0
        if application != _APPLICATION:
            raise BytecodeLinesError(f"{path}: not an index of bytecode-lines", advice)
        if schema != _SCHEMA:
            raise BytecodeLinesError(f"{path}: made by another version of bytecode-lines", advice)
        # SQLite would read the upper pages of a large index again and again.
        self._database.execute("PRAGMA cache_size = -16000")  # KB
        self._files: dict[int, File] = {}

    def entries(self, identity: str) -> list[Entry]:
        """Return the code objects with this identity; BytecodeLinesError if the file is damaged."""
        try:
            rows = self._database.execute(_FIND, (identity,)).fetchall()
        except sqlite3.DatabaseError as error:
            raise BytecodeLinesError(
                f"{self.path}: damaged: {error}", "Make the index again."
            ) from None
        entries = [Entry(self._file(row[0]), *row[1:]) for row in rows]
        return sorted(entries, key=lambda entry: (entry.file.path, entry.name))

    @functools.cached_property
    def codes(self) -> int:
        """The number of its code objects."""
        (count,) = self._database.execute("SELECT count(*) FROM codes").fetchone()
        return int(count)

    def all_entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield all code objects, each with its identity, much faster than one after another."""
        for identity, file, *rest in self._database.execute(_ALL):
            yield identity, Entry(self._file(file), *rest)

    def _file(self, id: int) -> File:
        file = self._files.get(id)
        if file is None:
            path, compiled_as, python, changed = self._database.execute(_FILE, (id,)).fetchone()
            major, minor = python.split(".")
            file = self._files[id] = File(
                path, compiled_as, (int(major), int(minor)), bool(changed)
            )
        return file

    def close(self) -> None:
        """Close the file."""
        self._database.close()


_FIND: Final = """
SELECT file, name, first_line, line_table, code_bytes, implicit_return FROM codes WHERE identity = ?
"""
_ALL: Final = """
SELECT identity, file, name, first_line, line_table, code_bytes, implicit_return FROM codes
"""
_FILE: Final = "SELECT path, compiled_as, python, changed FROM files WHERE id = ?"


@dataclass
class Summary:
    """What `build` found."""

    files: int = 0
    """Sources and .pyc files that were read."""
    codes: int = 0
    collisions: int = 0
    """Identities that several different code objects of one version share."""
    colliding_codes: int = 0
    """Code objects that share their identity."""
    changed: int = 0
    """.pyc files whose source has changed since."""
    problems: list[str] = field(default_factory=list)
    """Files that could not be read, each with the reason."""


def build(
    paths: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    python: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Index sources, .pyc files and archives; the summary names files that can't be read.

    The paths are those of files, or of folders, which are read with all that is below. A source is
    compiled by this Python, unless there is an up-to-date .pyc of this version. With `python`, such
    as `3.13`, only code of that version is indexed. `progress` is called with each folder. The
    folder of the output is made if it is missing; a file that is no index is not replaced.
    BytecodeLinesError if there is no code, or if the output can't be written.
    """
    output = Path(output)
    _require_replaceable(output)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as database:
            summary = _fill(database, [Path(path) for path in paths], python, progress)
        if not summary.codes:
            problem = f": {summary.problems[0]}" if summary.problems else ""
            version = f" of Python {python}" if python else ""
            raise BytecodeLinesError(
                f"no code{version} was found{problem}",
                "Name a folder with .py or .pyc files. For another Python, compile them with it: "
                f"python{python or '3.13'} -m compileall DIR",
            )
        partial.replace(output)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise BytecodeLinesError(
            f"{output}: can't be written: {reason}",
            "Name a file in a folder that you can write to.",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return summary


def _require_replaceable(output: Path) -> None:
    """Check that there is no file in the place of the output, or an index, or an empty file."""
    if not os.path.lexists(output):
        return
    try:
        what = "a folder" if output.is_dir() else "not a regular file"
        if output.is_file():
            with output.open("rb") as file:
                header = file.read(_HEADER_BYTES)
            application = header[_APPLICATION_AT : _APPLICATION_AT + 4]
            if not header or application == _APPLICATION.to_bytes(4, "big"):
                return
            what = "not an index of bytecode-lines, and is not replaced"
    except OSError as error:
        what = f"can't be read: {error.strerror or error}"
    raise BytecodeLinesError(f"{output}: {what}", "Name a new file, or an index to replace.")


# Of an SQLite file; PRAGMA application_id is at this offset, big-endian.
_HEADER_BYTES: Final = 100
_APPLICATION_AT: Final = 68


def _fill(
    database: sqlite3.Connection,
    paths: Iterable[Path],
    python: str,
    progress: Callable[[str], None],
) -> Summary:
    # No journal is needed: if this fails, the file is deleted.
    database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
    database.execute("BEGIN")
    summary = Summary()

    def unreadable(error: OSError) -> None:
        summary.problems.append(f"{error.filename}: {error.strerror or error}")

    for root in paths:
        if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises for what it may not read
            if not os.path.lexists(root):
                raise BytecodeLinesError(f"{root}: no such file or folder")
            _Folder(database, summary, root.parent, python).add_named(root)
            continue
        # Links to folders are not followed, as they may lead back up.
        for path, _, names in os.walk(root, onerror=unreadable):
            folder = Path(path)
            if folder.name == "__pycache__" and folder != root:
                continue  # it is read together with the folder that it is in
            progress(path)
            _Folder(database, summary, folder, python).add(names)
    database.execute("CREATE INDEX codes_by_identity ON codes (identity)")
    summary.collisions, summary.colliding_codes = database.execute(_COLLISIONS).fetchone()
    database.execute("COMMIT")
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {_SCHEMA}")
    return summary


_INSERT: Final = """
INSERT INTO codes (file, identity, name, first_line, line_table, code_bytes, implicit_return)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_COLLISIONS: Final = """
SELECT count(*), coalesce(sum(codes), 0) FROM (
    SELECT count(*) AS codes FROM (
        SELECT DISTINCT identity, python, path, name, line_table, code_bytes
        FROM codes JOIN files ON files.id = codes.file
    ) GROUP BY identity, python HAVING codes > 1
)
"""


class _Folder:
    """Adds the code of one folder and its __pycache__; equal code objects are added once."""

    def __init__(
        self, database: sqlite3.Connection, summary: Summary, path: Path, python: str
    ) -> None:
        self._database = database
        self._summary = summary
        self._path = path
        self._python = python
        self._files: dict[tuple[str, str, str, bool], int] = {}
        self._seen: set[tuple[object, ...]] = set()

    def add(self, names: list[str]) -> None:
        """Add those of the files of the folder, with these names, that have code."""
        compiled = set()
        for path in self._regular(self._path, names, ".pyc"):
            self._pyc(path, _source_of(path))
        for path in self._regular(self._path / "__pycache__", self._cached(), ".pyc"):
            source = _source_of(path)
            if self._pyc(path, source) and path.name.endswith(f".{_CACHE_TAG}.pyc"):
                compiled.add(source.name)
        if self._python in {"", _OWN_VERSION}:
            for path in self._regular(self._path, names, ".py"):
                if path.name not in compiled:
                    self._source(path)
        for name in sorted(names):
            path = self._path / name
            if path.suffix not in {".py", ".pyc"}:
                self._archive(path, is_named=False)

    def add_named(self, path: Path) -> None:
        """Add the code of a file that the user has named."""
        files, problems = self._summary.files, len(self._summary.problems)
        if path.suffix not in {".py", ".pyc"}:
            self._archive(path, is_named=True)
            return
        for _ in self._regular(path.parent, [path.name], path.suffix):
            if path.suffix == ".pyc":
                self._pyc(path, _source_of(path))
            elif self._python in {"", _OWN_VERSION}:
                self._source(path)
        if (files, problems) == (self._summary.files, len(self._summary.problems)):
            self._problem(f"{path}: it has no code of this version")

    def _cached(self) -> list[str]:
        cache = self._path / "__pycache__"
        try:
            return os.listdir(cache) if cache.is_dir() else []  # noqa: PTH208 - names are enough
        except OSError as error:
            self._problem(f"{cache}: {error.strerror or error}")
            return []

    def _regular(self, folder: Path, names: Iterable[str], suffix: str) -> Iterator[Path]:
        """Yield the regular files with this suffix; to open a FIFO would wait for its writer."""
        for path in (folder / name for name in sorted(names) if name.endswith(suffix)):
            if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for what it may not read
                yield path
            else:
                self._problem(f"{path}: not a regular file")

    def _archive(self, path: Path, is_named: bool) -> None:
        """Add the code of a zip file, or of a program that PyInstaller has made."""
        before = self._summary.files
        try:
            kind = archives.kind_of(path, is_named)
            if not kind:
                if is_named:
                    self._problem(f"{path}: neither .py, .pyc or zip, nor made by PyInstaller")
                return
            if kind == archives.ZIP:
                self._zip(path)
            else:
                for packed in archives.pyinstaller_codes(path):
                    if self._python in {"", _version_text(packed.version)}:
                        self._add(packed.code, packed.version, None, changed=False)
        except BytecodeLinesError as error:
            self._problem(error.what)
        else:
            if self._summary.files == before:
                self._problem(f"{path}: it has no code of this version")

    def _zip(self, path: Path) -> None:
        members = dict(archives.zip_members(path))
        compiled = set()
        for name, content in members.items():
            if not name.endswith(".pyc"):
                continue
            source = archives.source_of_member(name)
            try:
                pyc = parse(f"{path}/{name}", content)
                if self._python in {"", _version_text(pyc.version)}:
                    text = members.get(source)
                    changed = text is not None and pyc.source_size_bytes not in {None, len(text)}
                    place = path / source if text is not None else None
                    self._add(pyc.code, pyc.version, place, changed)
                    self._summary.changed += changed
                    if pyc.version == sys.version_info[:2] and not changed:
                        compiled.add(source)
            except BytecodeLinesError as error:
                self._problem(error.what)
        for name, content in members.items():
            is_source = name.endswith(".py") and name not in compiled
            if is_source and self._python in {"", _OWN_VERSION}:
                self._compile(content, path / name)

    def _pyc(self, path: Path, source: Path) -> bool:
        """Add the code of a .pyc file; return whether the source has not changed since."""
        try:
            pyc = load(path)
            if self._python and _version_text(pyc.version) != self._python:
                return False
            is_there = os.path.isfile(source)  # noqa: PTH113
            changed = is_there and pyc.older_than(source)
            self._add(pyc.code, pyc.version, source if is_there else None, changed)
        except BytecodeLinesError as error:
            self._problem(error.what)
            return False
        self._summary.changed += changed
        return not changed

    def _source(self, path: Path) -> None:
        try:
            self._compile(path.read_bytes(), path)
        except OSError as error:
            self._problem(f"{path}: {error.strerror or error}")

    def _compile(self, content: bytes, path: Path) -> None:
        try:
            code = compile(content, str(path), "exec", dont_inherit=True)
            self._add(code, sys.version_info[:2], path, changed=False)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            self._problem(f"{path}: does not compile: {error}")
        except BytecodeLinesError as error:
            self._problem(error.what)

    def _problem(self, text: str) -> None:
        self._summary.problems.append(text)

    def _add(
        self, code: AnyCode, version: tuple[int, int], source: Path | None, changed: bool
    ) -> None:
        path = str(source.absolute()) if source else code.co_filename
        key = (path, code.co_filename, _version_text(version), changed)
        file = self._file(key)
        rows = []
        for inner in walk(code, version):
            try:
                lines = inner.lines
            except TableError as error:
                self._problem(f"{path}: {inner.qualified_name}: {error.what}")
                continue
            row = (
                file,
                str(inner.identity),
                inner.qualified_name,
                inner.first_line,
                inner.table,
                inner.code_length,
                lines.implicit_return,
            )
            if row not in self._seen:
                self._seen.add(row)
                rows.append(row)
        self._database.executemany(_INSERT, rows)
        self._summary.files += 1
        self._summary.codes += len(rows)

    def _file(self, key: tuple[str, str, str, bool]) -> int:
        if key not in self._files:
            done = self._database.execute(
                "INSERT INTO files (path, compiled_as, python, changed) VALUES (?, ?, ?, ?)", key
            )
            assert done.lastrowid is not None
            self._files[key] = done.lastrowid
        return self._files[key]


def _source_of(pyc: Path) -> Path:
    """Return the path of the source of a .pyc file."""
    if pyc.parent.name == "__pycache__":
        return pyc.parent.parent / source_name(pyc.name)
    return pyc.with_suffix(".py")


def _version_text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


_OWN_VERSION: Final = _version_text(sys.version_info[:2])
_CACHE_TAG: Final = sys.implementation.cache_tag
