"""The object files that have a program which a test could not load.

The object inside of the test's executable is the very one that the test loaded. If the same object
is a file of the project too, that file is named, since people know it. Without one inside, the
payload's objects, those of `verify:` in kernels.yaml and those below the project's folder are
looked through.
"""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.whole_file import write_whole
from bpfmatrix.payload.model import Executable, Payload
from bpfmatrix.rejections import embedded
from bpfmatrix.verify.objects import ObjectContents, ObjectError, contents_of, inspect

__all__ = ["FoundObject", "ObjectFiles"]

# Folders that have no sources of the project, or far too many files.
_LEFT_OUT = frozenset({"node_modules", "target", "vendor", "venv", "__pycache__"})
_MOST_FILES = 50_000
_SOURCES = (".c", ".h", ".rs")
# An executable with more programs than this is not loaded as a whole to find a nameless one.
_MOST_NAMELESS = 40


@dataclass(frozen=True)
class FoundObject:
    """An object file, and what is in it."""

    path: Path
    contents: ObjectContents
    folders: tuple[Path, ...] = field(default=())
    """Where the source files that its BTF names may be; the first is the project's root."""

    def has(self, program: str) -> bool:
        """Whether it has a program of this name."""
        return program in self.contents.programs


class ObjectFiles:
    """Finds objects by the executable that loads them, and by the names of programs."""

    def __init__(self, project: Project, payload: Payload, folder: Path) -> None:
        """Objects that are in no file of the project are written to `folder`."""
        self._project = project
        self._payload = payload
        self._folder = folder
        self._of_executable: dict[str, list[FoundObject]] = {}
        self._read: dict[Path, FoundObject | None] = {}

    def having(self, executable: str, program: str) -> list[FoundObject]:
        """Return the objects with a program; it is empty for all that the executable may load.

        `executable` is the name of a test binary.
        """
        inside = self._inside(executable)
        if not program:
            count = sum(len(one.contents.programs) for one in inside)
            return inside if count <= _MOST_NAMELESS else []
        if found := [one for one in inside if one.has(program)]:
            return found
        for paths in (self._declared, self._objects_of_project):
            known = (self._found(path) for path in paths)
            if found := [one for one in known if one and one.has(program)]:
                return found
        return []

    def source(self, name: str) -> str:
        """Return the path of a source file, relative to kernels.yaml, by its name in the BTF.

        The name is returned as it is, unless exactly one file of the project ends with it.
        """
        if (self._project.root / name).exists():
            return name
        ending = os.path.normpath(name).replace("../", "")
        alike = [path for path in self._sources if f"/{path}".endswith(f"/{ending}")]
        return str(alike[0]) if len(alike) == 1 else name

    def _inside(self, executable: str) -> list[FoundObject]:
        if executable not in self._of_executable:
            test = next((one for one in self._payload.tests if one.name == executable), None)
            contents = embedded.find(test.path) if test else ()
            found = (self._written(data, test) for data in contents if test)
            self._of_executable[executable] = [one for one in found if one]
        return self._of_executable[executable]

    def _written(self, data: bytes, test: Executable) -> FoundObject | None:
        """Return an object that is inside of an executable, as a file."""
        path = self._twin(data)
        if path is None:
            path = self._folder / f"{sha256(data)[:12]}.o"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
        return self._found(path, *([test.folder] if test.folder else []))

    def _twin(self, data: bytes) -> Path | None:
        """Return the file of the project with this content."""
        for path in (*self._declared, *self._objects_of_project):
            try:
                if path.stat().st_size == len(data) and path.read_bytes() == data:
                    return path
            except OSError:
                continue
        return None

    def _found(self, path: Path, *folders: Path) -> FoundObject | None:
        """Return a file with what is in it; None if it is no object with programs."""
        if path not in self._read:
            root = self._project.root
            places = (root, *folders, path.parent, path.parent.parent)
            try:
                self._read[path] = FoundObject(path, inspect(path, path.name), places)
            except ObjectError:
                self._read[path] = None
        return self._read[path]

    @cached_property
    def _declared(self) -> list[Path]:
        """The objects of the payload, and those of `verify:` in kernels.yaml."""
        payload, root = self._payload, self._project.root
        found = [*payload.objects, *(p for p in payload.extra.values() if p.suffix == ".o")]
        for entry in self._project.config.verify.objects:
            for name in sorted(glob.glob(str(root / entry.path), recursive=True)):  # noqa: PTH207 - of an absolute pattern
                path = Path(os.path.normpath(name))
                found += contents_of(path).objects if path.is_dir() else (path,)
        return list(dict.fromkeys(path for path in found if path.is_file()))

    @cached_property
    def _objects_of_project(self) -> list[Path]:
        return [path for path in self._files if path.suffix == ".o"]

    @cached_property
    def _sources(self) -> list[Path]:
        root = self._project.root
        return [path.relative_to(root) for path in self._files if path.suffix in _SOURCES]

    @cached_property
    def _files(self) -> list[Path]:
        """The objects and sources below the project's folder."""
        wanted = (path for path in _walk(self._project.root) if path.suffix in (".o", *_SOURCES))
        return sorted(wanted)


def _walk(root: Path) -> Iterator[Path]:
    count = 0
    for parent, folders, names in os.walk(root):
        folders[:] = _visited(folders)
        # Opening a FIFO or a device would wait.
        yield from (path for name in names if (path := Path(parent, name)).is_file())
        count += len(names)
        if count > _MOST_FILES:
            return


def _visited(folders: Iterable[str]) -> list[str]:
    return sorted(name for name in folders if name[0] != "." and name not in _LEFT_OUT)
