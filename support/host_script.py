"""List what a Python script needs in the guest beside the standard library: JSON for a payload.

    PYTHON host_script.py [--compiled DIR] [--optimize N] [--loader WORD]... SCRIPT
    PYTHON host_script.py ... --module NAME

PYTHON is the interpreter of the script, with its packages. Nothing of the script or of its packages
is executed or imported. It prints {"files": {place: path}, "run": place of the script, or its
module}. The places are:

    script/    The script, and what it imports from its folder (for a module: from the working
               directory): modules, and packages as whole folders, with the data in them. Also files
               and folders beside these modules that a text in their code names.
    python/site/   Packages that these import from anywhere else. A package that was installed comes
                   as the whole distribution, with all installed ones that it requires, extras too.
    python/lib/    Shared libraries of the host that extension modules of these packages need.

This script runs on the host, under each supported version of Python, and needs only the standard
library.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import host_python

SCRIPT, SITE, LIBRARIES = "script", "python/site", "python/lib"
IMPORTERS = {"import_module", "__import__", "find_spec"}


def main() -> None:
    """Print the files of a script or a module."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--compiled", default="", help="a folder for compiled files")
    arguments.add_argument("--optimize", type=int, default=0, help="as compile() takes it")
    arguments.add_argument("--loader", action="append", default=[], help=argparse.SUPPRESS)
    arguments.add_argument("--module", action="store_true", help="SCRIPT is a module's name")
    arguments.add_argument("script", metavar="SCRIPT")
    options = arguments.parse_args()
    path = Path.cwd() if options.module else Path(options.script).absolute()
    folder = path if options.module else path.parent
    sys.path[0] = str(folder)
    finder = Finder(folder)
    if options.module:
        run = options.script
        if why := finder.refusal(options.script):
            print(json.dumps({"error": why}))
            return
        finder.needs(options.script.partition(".")[0])
    else:
        run = f"{SCRIPT}/{path.name}"
        finder.script(path)
    finder.finish()
    compiled = host_python.Compiled(options.compiled, options.optimize)
    files = dict(
        host_python.placed(place, file, compiled) if place.startswith(SITE) else (place, file)
        for place, file in finder.found.items()
    )
    extensions = [file for place, file in files.items() if re.search(r"\.so(\.|$)", place)]
    known = {file.resolve() for file in extensions}
    interpreter = Path(sys.executable).resolve()
    for name, library in host_python.libraries(interpreter, extensions, options.loader):
        if library.resolve() not in known:
            files.setdefault(f"{LIBRARIES}/{name}", library)
    print(json.dumps({"files": {k: str(v) for k, v in sorted(files.items())}, "run": run}))


class Finder:
    """Finds the files of a script: first `script` or `needs`, then `finish`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the script."""
        self.found: dict[str, Path] = {}
        self._folder = folder
        self._library = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
        self._names: list[str] = []  # of modules at the top level that are still to be found
        self._seen: set[str] = set()
        self._modules: set[Path] = set()
        self._distributions: dict[str, importlib.metadata.Distribution] = {}

    def refusal(self, module: str) -> str:
        """Return why there is no such module; empty if there is one."""
        name = module.partition(".")[0]
        places = list(locations(name))
        if not places:
            return f"there is no module {name!r} in {self._folder} and in Python's packages"
        inner = module.replace(".", "/").partition("/")[2]
        for place in places:
            if place.is_file():
                if not inner:
                    return ""
                continue
            base = place / inner if inner else place
            if (base / "__main__.py").is_file() or (
                inner and base.with_name(f"{base.name}.py").is_file()
            ):
                return ""
            if base.is_dir():
                return f"{module} is a package without a module __main__, so that -m can't run it"
        return f"there is no module {module!r} in {places[0]}"

    def needs(self, name: str) -> None:
        """Note that a module or package of this name, at the top level, is imported."""
        if name not in self._seen:
            self._seen.add(name)
            self._names.append(name)

    def finish(self) -> None:
        """Find all that was noted, and all that these need."""
        while self._names:
            self._find(self._names.pop())

    def script(self, path: Path) -> None:
        """Add the script itself, and note what it imports."""
        self.found[f"{SCRIPT}/{path.name}"] = path
        self._read(path, is_beside=True)

    def _read(self, path: Path, *, is_beside: bool) -> None:
        """Note what a source imports. If it `is_beside` the script, add data that it names."""
        if path in self._modules:
            return
        self._modules.add(path)
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            return  # the guest's Python will report it
        for name in imports(tree):
            self.needs(name)
        if is_beside:
            for data in named_files(tree, path.parent):
                self._tree(data, self._folder, SCRIPT)

    def _find(self, name: str) -> None:
        for place in locations(name):
            # What another entry of sys.path has, such as a folder src, is not beside the script.
            if place.parent == self._folder:
                self._sources(place, self._folder, SCRIPT)
            elif self._is_library(place):
                continue
            elif distribution := self._distribution(name):
                self._whole(distribution)
                # An editable one has its sources elsewhere.
                if f"{SITE}/{place.name}" not in self.found and not any(
                    known.startswith(f"{SITE}/{place.name}/") for known in self.found
                ):
                    self._sources(place, place.parent, SITE)
            else:
                self._sources(place, place.parent, SITE)

    def _is_installed(self, place: Path) -> bool:
        """Whether it lies in a virtual environment in the script's folder."""
        return bool({"site-packages", "dist-packages"} & set(place.parts))

    def _is_library(self, place: Path) -> bool:
        return not self._is_installed(place) and any(
            host_python.is_below(place, folder) for folder in self._library
        )

    def _sources(self, place: Path, root: Path, below: str) -> None:
        """Add a module, or the folder of a package, and note what its sources import."""
        self._tree(place, root, below)
        for path in [place] if place.is_file() else tree(place):
            if path.suffix == ".py":
                self._read(path, is_beside=below == SCRIPT)

    def _tree(self, place: Path, root: Path, below: str) -> None:
        for path in [place] if place.is_file() else tree(place):
            self.found.setdefault(f"{below}/{path.relative_to(root)}", path)

    def _distribution(self, name: str) -> Any:
        """Return the installed distribution that has a module of this name, or None."""
        if not self._distributions:
            for each in importlib.metadata.distributions():
                for top in tops(each):
                    self._distributions.setdefault(top, each)
        if known := self._distributions.get(name):
            return known
        try:
            return importlib.metadata.distribution(name)  # of an editable installation
        except importlib.metadata.PackageNotFoundError:
            return None

    def _whole(self, distribution: importlib.metadata.Distribution) -> None:
        """Add all files of a distribution, and the distributions that it requires."""
        title = normalized(distribution.metadata["Name"] or "")
        if f"distribution {title}" in self._seen:
            return
        self._seen.add(f"distribution {title}")
        root = Path(str(distribution.locate_file("")))
        for top in tops(distribution):
            self.needs(top)
        for entry in entries(distribution, root):
            self._tree(entry, root, SITE)
        for requirement in distribution.requires or ():
            if match := re.match(r"[\w.-]+", requirement):
                # It may be of another platform, or of an extra that is not installed.
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    self._whole(importlib.metadata.distribution(match[0]))


def normalized(name: str) -> str:
    """Return the form of a distribution's name by which it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(distribution: importlib.metadata.Distribution, root: Path) -> list[Path]:
    """Return the files and folders of a distribution at the top of its folder of packages."""
    parts = {file.parts[0] for file in distribution.files or ()}
    names = {name for name in parts if not name.endswith(".pth") and name not in ("..", "/")}
    if not distribution.files:  # of a distribution's own packages, such as Debian's
        names = set(tops(distribution))
        names |= {f"{name}.py" for name in names}
        own = getattr(distribution, "_path", None)  # the folder *.dist-info or *.egg-info
        names |= {Path(str(own)).name} if own else set()
    names -= {"__pycache__", "bin"}
    return [root / name for name in sorted(names) if (root / name).exists()]


def tops(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    """Yield the names of the modules and packages of a distribution at the top level."""
    if text := distribution.read_text("top_level.txt"):
        yield from text.split()
    for file in distribution.files or ():
        first = file.parts[0]
        if len(file.parts) == 1 and first.endswith((".py", ".so")):
            yield first.partition(".")[0]
        elif len(file.parts) > 1 and first.isidentifier() and first != "__pycache__":
            yield first


def locations(name: str) -> Iterator[Path]:
    """Yield the file of a module at the top level, or the folders of a package of this name."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        for folder in spec.submodule_search_locations:
            if Path(folder).is_dir():
                yield Path(folder)
    elif spec.has_location and spec.origin and Path(spec.origin).is_file():
        yield Path(spec.origin)


def tree(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder, but for hidden ones and for compiled ones."""
    here = folder.resolve()
    if here in above:
        return  # a link leads back
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in ("__pycache__", "node_modules"):
            continue
        if path.is_dir():
            yield from tree(path, (*above, here))
        elif path.is_file():
            yield path


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the top-level names of the modules that a source imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            first = node.args[0] if node.args else None
            text = first.value if isinstance(first, ast.Constant) else None
            if name in IMPORTERS and isinstance(text, str) and not text.startswith("."):
                yield text.partition(".")[0]


def named_files(tree: ast.AST, folder: Path) -> Iterator[Path]:
    """Yield the files and folders of a folder that a text in the source names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if text.strip("./") and len(text) < 256 and "\0" not in text and "\n" not in text:
                path = folder / text
                if not text.startswith("/") and ".." not in Path(text).parts and path.exists():
                    yield path


if __name__ == "__main__":
    main()
