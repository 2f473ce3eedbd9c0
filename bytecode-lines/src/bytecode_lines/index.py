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
import tokenize
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bytecode_lines.code import AnyCode, LineMap, walk
from bytecode_lines.errors import BytecodeLinesError, TableError
from bytecode_lines.pyc import Pyc, load
from bytecode_lines.tables import Format, decode

__all__ = ["Entry", "Index", "Summary", "build"]

# The application id, "pyln", identifies the file. The schema version changes with the tables below.
_APPLICATION: Final = 0x70796C6E
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


@dataclass(frozen=True)
class Entry:
    """A code object of an index."""

    path: str
    """Of the source."""
    compiled_as: str
    """The source's path as it was passed to the compiler, which is `co_filename` in a process."""
    python: str
    """The version of Python, such as `3.11`."""
    changed: int
    """1 if the source has changed since it was compiled, otherwise 0."""
    name: str
    """The qualified name."""
    first_line: int
    table: bytes
    code_length: int
    implicit_return: int | None

    @functools.cached_property
    def lines(self) -> LineMap:
        """Its lines; TableError if the line table is damaged, which `build` rules out."""
        major, minor = self.python.split(".")
        format = Format.of((int(major), int(minor)))
        ranges = decode(format, self.table, self.first_line, self.code_length)
        return LineMap(ranges, self.first_line, self.code_length, self.implicit_return)


class Index:
    """An index that `build` has written."""

    def __init__(self, path: Path) -> None:
        """Open an index; BytecodeLinesError if the file does not exist or is not an index."""
        advice = f"Make one: python -m bytecode_lines index DIR -o {path}"
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

    def entries(self, identity: str) -> list[Entry]:
        """Return the code objects with this identity; BytecodeLinesError if the file is damaged."""
        try:
            rows = self._database.execute(_FIND, (identity,)).fetchall()
        except sqlite3.DatabaseError as error:
            raise BytecodeLinesError(
                f"{self.path}: damaged: {error}", "Make the index again."
            ) from None
        return [Entry(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._database.close()


_FIND: Final = """
SELECT path, compiled_as, python, changed, name, first_line, line_table, code_bytes, implicit_return
FROM codes JOIN files ON files.id = codes.file WHERE identity = ? ORDER BY path, name
"""


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
    folders: Iterable[Path],
    output: Path,
    python: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Index the sources and .pyc files in folders; the summary names files that can't be read.

    A source is compiled by this Python, unless there is an up-to-date .pyc of this version. With
    `python`, such as `3.13`, only code of that version is indexed. `progress` is called with each
    folder. BytecodeLinesError if there is no code.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as database:
            summary = _fill(database, folders, python, progress)
        if not summary.codes:
            problem = f": {summary.problems[0]}" if summary.problems else ""
            version = f" of Python {python}" if python else ""
            raise BytecodeLinesError(
                f"no code{version} was found{problem}",
                "Name a folder with .py or .pyc files. For another Python, compile them with it: "
                f"python{python or '3.13'} -m compileall DIR",
            )
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return summary


def _fill(
    database: sqlite3.Connection,
    folders: Iterable[Path],
    python: str,
    progress: Callable[[str], None],
) -> Summary:
    # No journal is needed: if this fails, the file is deleted.
    database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
    database.execute("BEGIN")
    summary = Summary()
    for folder in folders:
        if not folder.is_dir():
            raise BytecodeLinesError(f"{folder}: no such folder")
        for path, _, names in os.walk(folder):
            if Path(path).name == "__pycache__":
                continue  # it is read together with the folder that it is in
            progress(path)
            _Folder(database, summary, Path(path), python).add(names)
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
        cache = self._path / "__pycache__"
        cached = os.listdir(cache) if cache.is_dir() else []  # noqa: PTH208 - names are enough
        compiled = set()
        for path in (self._path / name for name in sorted(names) if name.endswith(".pyc")):
            self._pyc(path, path.with_suffix(".py"))
        for path in (cache / name for name in sorted(cached) if name.endswith(".pyc")):
            source = self._path / f"{path.name.split('.')[0]}.py"
            if self._pyc(path, source) and path.name.endswith(f".{_CACHE_TAG}.pyc"):
                compiled.add(source.name)
        if self._python in {"", _OWN_VERSION}:
            for name in sorted(names):
                if name.endswith(".py") and name not in compiled:
                    self._source(self._path / name)

    def _pyc(self, path: Path, source: Path) -> bool:
        """Add the code of a .pyc file; return whether the source has not changed since."""
        try:
            pyc = load(path)
            if self._python and _version_text(pyc.version) != self._python:
                return False
            changed = pyc.older_than(source)
            self._add(pyc.code, pyc, source if source.is_file() else None, changed)
        except BytecodeLinesError as error:
            self._problem(error.what)
            return False
        self._summary.changed += changed
        return not changed

    def _source(self, path: Path) -> None:
        try:
            with tokenize.open(path) as file:
                text = file.read()
            code = compile(text, str(path), "exec", dont_inherit=True)
            self._add(code, None, path, changed=False)
        except OSError as error:
            self._problem(f"{path}: {error.strerror or error}")
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            self._problem(f"{path}: does not compile: {error}")
        except BytecodeLinesError as error:
            self._problem(error.what)

    def _problem(self, text: str) -> None:
        self._summary.problems.append(text)

    def _add(self, code: AnyCode, pyc: Pyc | None, source: Path | None, changed: bool) -> None:
        version = pyc.version if pyc else sys.version_info[:2]
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


def _version_text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


_OWN_VERSION: Final = _version_text(sys.version_info[:2])
_CACHE_TAG: Final = sys.implementation.cache_tag
