"""The Python script to profile, and the modules beside it that it imports."""

import modulefinder
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.errors import UsageError

__all__ = ["Script"]


class _Finder(modulefinder.ModuleFinder):
    """A finder to which a namespace package, a folder without `__init__.py`, is a missing module.

    The one of CPython (seen in 3.11, 3.12 and 3.13) ends with an AttributeError at such a package.
    """

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        try:
            return super().find_module(name, path, parent)
        except AttributeError:
            raise ImportError(name) from None


@dataclass(frozen=True)
class Script:
    """A script and the modules beside it that it imports."""

    path: Path
    files: Mapping[str, Path]
    """The script and these modules, by their paths relative to the script's folder."""

    @classmethod
    def find(cls, path: Path) -> "Script":
        """Find the modules of a script; UsageError if the script does not exist."""
        if not path.is_file():
            raise UsageError(f"{path}: no such script")
        path = path.absolute()
        # This searches the script's folder only. The guest's Python has the standard library.
        finder = _Finder(path=[str(path.parent)])
        found = [path]
        try:
            finder.run_script(str(path))
        except (SyntaxError, ValueError):
            pass  # the guest's Python will report the error
        else:
            files = (getattr(module, "__file__", None) for module in finder.modules.values())
            found += [Path(file) for file in files if file]
        return cls(path, {str(file.relative_to(path.parent)): file for file in found})
