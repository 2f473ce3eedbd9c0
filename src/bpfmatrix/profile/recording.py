"""What the tracer recorded of one run of a script in a guest.

`workload` makes a `Recording`, and `symbolization` turns its samples into lines of source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["PYTHON_FOLDER", "SCRIPTS_FOLDER", "Recording"]

# Folders of the payload.
PYTHON_FOLDER, SCRIPTS_FOLDER = "python", "script"


@dataclass(frozen=True)
class Recording:
    """The samples of one run, and what is needed to read them."""

    samples: Path
    """A file of JSON lines, which `profile.samples` reads: each distinct stack, with its count."""
    python: Mapping[str, Path]
    """The files of the guest's Python on the host, by their paths in its installation, such as
    `bin/python3`."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """The tracer's summary: `python`, `status`, `counters`, and `ended` if a signal ended the
    script. Empty if the tracer did not finish."""
    trouble: str = ""
    """Why the run did not end by itself; empty if it did."""

    @property
    def interpreter(self) -> Path:
        """The Python interpreter."""
        return self.python["bin/python3"]

    @property
    def library(self) -> Path:
        """The folder of the standard library."""
        for name, path in self.python.items():
            inner = PurePosixPath(name).parts[2:]
            # A compiled file may be elsewhere.
            if name.startswith("lib/python") and path.parts[-len(inner) :] == inner:
                return Path(*path.parts[: -len(inner)])
        modules = {name.split("/", 2)[-1]: path for name, path in self.python.items()}
        found = modules.get("os.pyc") or modules["os.py"]
        return found.parent.parent if found.parent.name == "__pycache__" else found.parent
