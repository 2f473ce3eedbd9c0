"""The core files of processes that died by a signal, written while they come from the guest."""

import contextlib
import re
from pathlib import Path
from typing import BinaryIO

from bpfmatrix.vm.protocol import CorePart

__all__ = ["CoreFiles"]

# All core files of a run together, so that a test whose processes keep dying can't fill the disk.
_ALL_BYTES = 8 << 30


class CoreFiles:
    """Writes core files into a folder. They are sparse: zeros become holes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._size = 0
        self._all = 0
        self.found: list[Path] = []
        """The paths of the core files; one may be cut short if the machine ended."""

    def feed(self, part: CorePart) -> None:
        """Take the next bytes. They are dropped if they can't be written, as on a full disk."""
        with contextlib.suppress(OSError):
            self._write(part.data, self._path(part))
        if part.last:
            self.close()

    def _path(self, part: CorePart) -> Path:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", part.name)
        return self._folder / f"{name}.{part.pid}.core"

    def _write(self, data: bytes, path: Path) -> None:
        if self._file is None:
            self._file = path.open("wb")
            self._size = 0
            self.found.append(path)
        data = data[: max(0, _ALL_BYTES - self._all)]
        self._all += len(data)
        if data.count(0) == len(data):
            self._file.seek(len(data), 1)
        else:
            self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        """Close the file that is open, even if the machine ended within it."""
        if self._file is not None:
            with contextlib.suppress(OSError), self._file:
                self._file.truncate(self._size)
            self._file = None
