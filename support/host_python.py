"""List the files of the host's CPython for a payload: `payload.listed` in kernels.yaml.

    python3 support/host_python.py [--whole] [--path DIR]... MODULE...

It takes /usr/bin/python3, or, if the tracer does not support that, another Python on PATH. The
environment variable BPFMATRIX_PYTHON overrides this. For each of these files it prints the path in
the payload, a tab and the path on the host:

    bin/python3       the interpreter
    lib/*.so*         its dynamic loader, and the libraries that it and its extension modules need
    lib/pythonX.Y/    the modules of the standard library that the interpreter imports by itself and
                      for the given modules, or with --whole, all but tests and graphics
    site/             the given modules that are not in the standard library, from the folders that
                      --path names

It lists an up-to-date .pyc in place of its source, so that the guest need not compile the source.
If there is no such Python for the guest's architecture, it lists nothing. It runs on the host, and
needs only the standard library.
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

SUPPORTED = tuple((3, minor) for minor in range(8, 15))
# These need much space, and are of no use without a screen, a network or a compiler.
EXCLUDED = re.compile(
    r"(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|venv|pydoc_data|config-[^/]*"
    r"|site-packages|dist-packages|__pycache__|__phello__)(/|$)"
)
FLAG_HASHED = 1  # PEP 552: the .pyc has a hash of its source


def main() -> None:
    """Choose a Python, and run this script with it, so that it lists its own files."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--whole", action="store_true", help="the whole standard library")
    arguments.add_argument("--path", action="append", default=[], help="a folder with modules")
    arguments.add_argument("--list", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("modules", nargs="*", metavar="MODULE")
    options = arguments.parse_args()
    if options.list:
        folders = [Path(p).absolute() for p in options.path]
        for target, path in files(options.modules, folders, options.whole):
            print(f"{target}\t{path}")
        return
    if os.environ.get("BPFMATRIX_ARCH", platform.machine()) == platform.machine():
        for python in candidates():
            # -I: independent of the environment's variables, and of a virtual environment.
            command = [str(python), "-I", "-X", "utf8", __file__, "--list", *sys.argv[1:]]
            sys.exit(subprocess.run(command, check=False).returncode)


def candidates() -> Iterator[Path]:
    """Yield the interpreters that the tracer supports, best first, without wrappers."""
    names = ["/usr/bin/python3", "python3", *(f"python{a}.{b}" for a, b in SUPPORTED)]
    if override := os.environ.get("BPFMATRIX_PYTHON"):
        names = [override]
    script = (
        "import sys; base = getattr(sys, '_base_executable', sys.executable); "
        "print(*sys.version_info[:2], sys.implementation.name, base)"
    )
    for name in names:
        if found := shutil.which(name):
            done = subprocess.run(
                [found, "-I", "-c", script], capture_output=True, text=True, check=False
            )
            major, minor, kind, *rest = done.stdout.split(maxsplit=3) or ("0", "0", "")
            if kind == "cpython" and (int(major), int(minor)) in SUPPORTED and rest:
                yield Path(rest[0].strip()).resolve()


def files(modules: list[str], folders: list[Path], whole: bool) -> Iterator[tuple[str, Path]]:
    """Yield the path in the payload and the path on the host of each file."""
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
    module_files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    imported = [Path(file) for file in module_files if file]
    # A module may replace itself in sys.modules, as collections.abc does.
    named = (library / f"{name.replace('.', '/')}.py" for name in sys.modules)
    imported += [path for path in named if path.is_file()]
    extensions = [p for p in imported if p.suffix == ".so"]
    if whole:
        sources = [p for p in library.rglob("*") if p.is_file()]
        imported += [p for p in sources if not EXCLUDED.search(str(p.relative_to(library)))]
        extensions = [p for p in imported if p.suffix == ".so"]
    for path in (*imported, library / "os.py"):
        if path == Path(__file__).absolute():
            continue
        for folder, name in ((library, version), *((folder, "site") for folder in folders)):
            if path.is_relative_to(folder):
                target = f"{name}/{path.relative_to(folder)}"
                compiled = up_to_date_pyc(path)
                found[target.removesuffix(".py") + ".pyc" if compiled else target] = (
                    compiled or path
                )
    for name, path in libraries([interpreter, *extensions]):
        found[f"lib/{name}"] = path
    yield from sorted(found.items())


def up_to_date_pyc(source: Path) -> Path | None:
    """Return the .pyc of a source, if there is one that the interpreter would use."""
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
    """Yield the names and paths of the shared libraries and the dynamic loader that these need."""
    done = subprocess.run(["ldd", *executables], capture_output=True, text=True, check=False)
    # "libc.so.6 => /lib/libc.so.6 (0x...)", and the loader as "/lib64/ld-linux-x86-64.so.2 (0x...)"
    for match in re.finditer(r"^\t(?:(\S+) => )?(/.*) \(0x[0-9a-f]+\)$", done.stdout, re.MULTILINE):
        yield match[1] or Path(match[2]).name, Path(match[2])


if __name__ == "__main__":
    main()
