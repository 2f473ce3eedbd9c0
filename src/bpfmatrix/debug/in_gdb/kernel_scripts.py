"""The kernel's own scripts for gdb (scripts/gdb/linux): the commands lx-dmesg, lx-ps, and so on.

They are loaded as their `vmlinux-gdb.py` does, but one by one and in silence, so that one that this
gdb's Python can't load only costs its own commands. Nothing is written where they are.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any

# How scripts name their commands (lx-dmesg) and functions ($lx_current).
_NAME = re.compile(r"""__init__\(\s*['"](lx[-_][\w-]+)['"]""")


def load(path: str | Path) -> None:
    """Load the scripts of a kernel's `vmlinux-gdb.py`; print a line if commands are missing."""
    path = Path(path)
    if line := missing(path, _import(path)):
        print(line)


def _import(path: Path) -> dict[str, Exception]:
    """Import the modules that a `vmlinux-gdb.py` names; return those that can't be, with errors."""
    try:
        wanted = modules(path.read_text(errors="replace"))
    except (OSError, SyntaxError) as error:
        return {"": error}
    sys.meta_path.insert(0, _Finder(_folder(path)))
    errors: dict[str, Exception] = {}
    with warnings.catch_warnings():
        # Newer releases of Python warn about backslashes in strings of the scripts.
        warnings.simplefilter("ignore")
        for name in wanted:
            try:
                importlib.import_module(name)
            except Exception as error:
                errors[name] = error
    return errors


def modules(text: str) -> list[str]:
    """Return the names of the modules that a `vmlinux-gdb.py` imports from its package `linux`."""
    imports = (each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Import))
    names = [alias.name for each in imports for alias in each.names]
    return list(dict.fromkeys(name for name in names if name.startswith("linux.")))


def missing(path: Path, errors: Mapping[str, Exception]) -> str:
    """Return the line about what is missing, by the error of each module; "" if nothing is."""
    if not errors:
        return ""
    first = next(iter(errors.values()))
    reason = str(first).splitlines()[0] if str(first) else type(first).__name__
    names: list[str] = []
    for module in errors:
        file = _folder(path).joinpath(*module.split(".")).with_suffix(".py")
        if module and file.exists():
            names += _NAME.findall(file.read_text(errors="replace"))
    if not names and "" not in errors:
        return ""
    shown = ", ".join(f"${name}" if name.startswith("lx_") else name for name in sorted(names))
    return f"without the kernel's own {shown or 'commands'}: {reason}"


def _folder(path: Path) -> Path:
    return path.parent / "scripts/gdb"


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the package `linux` of a kernel's scripts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name.partition(".")[0] != "linux":
            return None
        place = self._folder.joinpath(*name.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if not file.exists():
            return None
        loader = _Loader(name, str(file))
        return importlib.util.spec_from_file_location(name, file, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a script, after a repair if Python can't compile it."""

    def get_code(self, fullname: str) -> CodeType:
        """See importlib.abc.InspectLoader. Without the cache, which would write to the folder."""
        text = importlib.util.decode_source(self.get_data(self.path))
        try:
            return compile(text, self.path, "exec", dont_inherit=True)
        except SyntaxError:
            return compile(repaired(text), self.path, "exec", dont_inherit=True)


def repaired(text: str) -> str:
    """Return a script with C's integers as Python's: 1UL and 0644 become 1 and 0o644.

    The kernel's build makes linux/constants.py by the preprocessor, from headers.
    """
    text = re.sub(r"(?<![\w.])(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", text)
    return re.sub(r"(?<![\w.])0([0-7]+)\b", r"0o\1", text)
