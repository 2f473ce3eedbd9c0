"""The record of Go's test binaries in a folder: what they were built from, and what is in them.

The binary of the package `example.org/a/b` is the file `example.org/a/b.test` in that folder.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.host import records
from bpfmatrix.host.integrity import Checked, measure
from bpfmatrix.host.progress import Progress, announce

__all__ = ["GoRecord", "place"]

# No import path begins with a dot.
_NAME = ".built.json"


def place(import_path: str) -> str:
    """Return the path of a package's test binary, below the folder of all."""
    return f"{import_path}.test"


@dataclass(frozen=True)
class GoRecord:
    """What is known of the test binaries in the folder `target`, by their packages' import paths.

    `key` is the checksum of everything that they were built from; empty if they may be out of date.
    """

    target: Path
    key: str = ""
    goroot: str = ""
    loaders: Mapping[str, str] = field(default_factory=dict)
    """The dynamic loaders that the binaries need; each is empty if the binary is static."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Checked] = field(default_factory=dict)

    @classmethod
    def read(cls, target: Path) -> "GoRecord":
        """Return the record of a folder; an empty one if it is missing or damaged."""
        data = records.read(target / _NAME) or {}
        try:
            files = {name: Checked.from_json(value) for name, value in data["files"].items()}
            folders = {name: Path(data["folders"][name]) for name in files}
            loaders = {name: str(data["loaders"][name]) for name in files}
            return cls(target, str(data["key"]), str(data["goroot"]), loaders, folders, files)
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls(target)

    def write(self) -> None:
        """Write it; OSError if that fails."""
        data = {
            "key": self.key,
            "goroot": self.goroot,
            "loaders": {name: self.loaders[name] for name in self.files},
            "folders": {name: str(self.folders[name]) for name in self.files},
            "files": {name: one.to_json() for name, one in self.files.items()},
        }
        records.write(self.target / _NAME, data)

    def intact(self, progress: Progress) -> dict[str, Checked]:
        """Return the files that have the content with which they were built."""
        found: dict[str, Checked] = {}
        for name, known in self.files.items():
            with contextlib.suppress(OSError):
                one = measure(self.target / place(name), known)
                if one.sha256 == known.sha256:
                    found[name] = one
                else:
                    words = "changed since it was built; building it again"
                    announce(progress, f"{place(name)} {words}")
        return found

    def paths(self) -> Iterator[tuple[str, Path]]:
        """Give the import path of each package, and the path of its test binary."""
        for name in sorted(self.files):
            yield name, self.target / place(name)
