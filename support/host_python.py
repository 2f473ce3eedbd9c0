"""List the host's CPython as a tree of files, for a payload: `payload.listed` in kernels.yaml.

    python3 support/host_python.py [--whole] [--path DIR]... MODULE...

It takes the host's Python: /usr/bin/python3, or, where the tracer can't look into that, another one
on PATH; or the one that BPFMATRIX_PYTHON names. For each of these files it prints the place in the
tree, a tab and the path:

    bin/python3       the interpreter
    lib/*.so*         its dynamic loader, and the libraries that it and its extension modules need
    lib/pythonX.Y/    of its standard library what it imports by itself and for these modules, or
                      all but tests and graphics (--whole)
    site/             of the given modules what is not in the standard library; --path says where
                      such modules lie

An up-to-date .pyc takes the place of its source, which spares the guest the compilation.
Where there is no such Python for the guest's architecture, nothing is listed. It runs on the host,
with nothing but the standard library.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ((3, 11), (3, 12), (3, 13))
# What takes room and is of no use without a screen, a network or a compiler.
LEFT_OUT = re.compile(
    r"(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|venv|pydoc_data|config-[^/]*"
    r"|site-packages|dist-packages|__pycache__|__phello__)(/|$)"
)
FLAG_HASHED = 1  # PEP 552: a .pyc that is checked by its source's hash, if at all


def main() -> None:
    """Choose the Python, and let it list itself."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--whole", action="store_true", help="the whole standard library")
    arguments.add_argument("--path", action="append", default=[], help="where modules lie")
    arguments.add_argument("--list", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("modules", nargs="*", metavar="MODULE")
    asked = arguments.parse_args()
    if asked.list:
        for place, path in files(
            asked.modules, [Path(p).absolute() for p in asked.path], asked.whole
        ):
            print(f"{place}\t{path}")
        return
    if os.environ.get("BPFMATRIX_ARCH", platform.machine()) == platform.machine():
        for python in candidates():
            # Isolated from what the environment says, and from a virtual environment.
            command = [str(python), "-I", "-X", "utf8", __file__, "--list", *sys.argv[1:]]
            sys.exit(subprocess.run(command, check=False).returncode)


def candidates() -> Iterator[Path]:
    """Give the interpreters to choose from that the tracer supports, without wrappers."""
    names = ["/usr/bin/python3", "python3", *(f"python{a}.{b}" for a, b in SUPPORTED)]
    if own := os.environ.get("BPFMATRIX_PYTHON"):
        names = [own]
    ask = (
        "import sys; base = getattr(sys, '_base_executable', sys.executable); "
        "print(*sys.version_info[:2], sys.implementation.name, base)"
    )
    for name in names:
        if found := shutil.which(name):
            said = subprocess.run(
                [found, "-I", "-c", ask], capture_output=True, text=True, check=False
            )
            major, minor, kind, *rest = said.stdout.split(maxsplit=3) or ("0", "0", "")
            if kind == "cpython" and (int(major), int(minor)) in SUPPORTED and rest:
                yield Path(rest[0].strip()).resolve()


def files(modules: list[str], folders: list[Path], whole: bool) -> Iterator[tuple[str, Path]]:
    """Give each file's place in the tree and its path, each place once."""
    sys.path[:0] = map(str, folders)
    for name in (
        "encodings.utf_8",
        "encodings.ascii",
        "encodings.latin_1",
        "encodings.idna",
        *modules,
    ):
        importlib.import_module(name)
    library = Path(sysconfig.get_path("stdlib"))
    version = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = Path(sys.executable).resolve()
    found: dict[str, Path] = {"bin/python3": interpreter}
    own = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    imported = [Path(file) for file in own if file]
    # A module may put another one in its place, as collections.abc does.
    named = (library / f"{name.replace('.', '/')}.py" for name in sys.modules)
    imported += [path for path in named if path.is_file()]
    extensions = [p for p in imported if p.suffix == ".so"]
    if whole:
        sources = [p for p in library.rglob("*") if p.is_file()]
        imported += [p for p in sources if not LEFT_OUT.search(str(p.relative_to(library)))]
        extensions = [p for p in imported if p.suffix == ".so"]
    for path in (*imported, library / "os.py"):
        if path == Path(__file__).absolute():
            continue
        for folder, name in ((library, version), *((folder, "site") for folder in folders)):
            if path.is_relative_to(folder):
                place = f"{name}/{path.relative_to(folder)}"
                compiled = up_to_date(path)
                found[place.removesuffix(".py") + ".pyc" if compiled else place] = compiled or path
    for name, path in libraries([interpreter, *extensions]):
        found[f"lib/{name}"] = path
    yield from sorted(found.items())


def up_to_date(source: Path) -> Path | None:
    """Return the .pyc of a source, if there is one that the interpreter would take."""
    if source.suffix != ".py":
        return None
    path = Path(importlib.util.cache_from_source(str(source)))
    try:
        head, stat = path.read_bytes()[:16], source.stat()
    except OSError:
        return None
    flags, mtime, size = (int.from_bytes(head[n : n + 4], "little") for n in (4, 8, 12))
    valid = head[:4] == importlib.util.MAGIC_NUMBER and len(head) == 16 and not flags & FLAG_HASHED
    return path if valid and (mtime, size) == (int(stat.st_mtime), stat.st_size) else None


def libraries(executables: list[Path]) -> Iterator[tuple[str, Path]]:
    """Give the shared libraries that these need, by their names, and the dynamic loader."""
    done = subprocess.run(["ldd", *executables], capture_output=True, text=True, check=False)
    # "libc.so.6 => /lib/libc.so.6 (0x...)", and the loader as "/lib64/ld-linux-x86-64.so.2 (0x...)"
    for match in re.finditer(r"^\t(?:(\S+) => )?(/.*) \(0x[0-9a-f]+\)$", done.stdout, re.MULTILINE):
        yield match[1] or Path(match[2]).name, Path(match[2])


if __name__ == "__main__":
    main()
