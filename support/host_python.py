"""List the files of the host's CPython for a payload: `payload.listed` in kernels.yaml.

    python3 support/host_python.py [--whole] [--path DIR]... MODULE...

For each of these files it prints the path in the payload, a tab and the path on the host:

    bin/python3       the interpreter
    lib/*.so*         its dynamic loader, and the libraries that it and its extension modules need
    lib/pythonX.Y/    the modules of the standard library that the interpreter imports by itself and
                      for the given modules, or with --whole, all but tests and graphics
    site/             the given modules that are not in the standard library, from the folders that
                      --path names

The interpreter is the one that --python or the environment variable BPFMATRIX_PYTHON names. It is
an error if the tracer does not support that one, or if it is of another architecture. If neither is
given, the interpreter is /usr/bin/python3 or another one on PATH; if there is none that the tracer
supports, for the guest's architecture (BPFMATRIX_ARCH), nothing is listed.

An interpreter may lie in an unpacked root of another distribution, with its own C library: it is
then started with the dynamic loader of that root.

It lists a compiled file (.pyc) in place of its source, so that the guest need not compile the
source: one that is up to date, or with --compiled, one that it makes in that folder.

`--choose` prints, as JSON, which interpreter it would take, or why none (see `Choice`).

This script runs on the host, under each supported version of Python, and needs only the standard
library.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import platform
import py_compile
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

SUPPORTED = tuple((3, minor) for minor in range(8, 15))
"""The versions of CPython that the tracer can walk: see support/internal/pytrace/offsets.go."""
SUPPORTED_TEXT = "CPython 3.8 to 3.14"
# These need much space, and are of no use without a screen, a network or a compiler.
EXCLUDED = re.compile(
    r"(^|/)(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|venv|pydoc_data|config-[^/]*"
    r"|site-packages|dist-packages|__pycache__|__phello__)(/|$)"
)
FLAG_HASHED = 1  # PEP 552: the .pyc has a hash of its source
# What the C library loads by itself, so that no file names it: libgcc_s to end a thread, and the
# others, before glibc 2.34, for names of users and hosts.
LOADED_BY_LIBC = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
# e_machine of the ELF header, by the names of architectures that platform.machine() has.
MACHINES = {62: "x86_64", 183: "aarch64", 243: "riscv64", 22: "s390x", 21: "ppc64le"}
# It must run under any Python, also under Python 2.
PROBE = """
import sys
try:
    import json, platform, sysconfig
    name = platform.python_implementation()
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    base = getattr(sys, "_base_executable", None) or sys.executable
    print(json.dumps([name, sys.version_info[:2], free, base]))
except ImportError as error:
    print(json.dumps(["", sys.version_info[:2], False, str(error)]))
"""


class Choice(NamedTuple):
    """An interpreter that the tracer supports. `--choose` prints its fields."""

    python: str
    """The file of the interpreter: that of the installation, if a virtual environment is named."""
    version: tuple[int, int]
    start: list[str]
    """The words that start the interpreter on the host."""
    packages: list[str]
    """The words that start it with its packages, which are those of a virtual environment."""


class UnusableError(Exception):
    """Why an interpreter can't be used: `what` it is, and what to do."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}. {advice}")
        self.what = what
        self.advice = advice


def main() -> None:
    """Choose a Python, and run this script with it, so that it lists its own files."""
    options = parser().parse_args()
    if options.list:
        folders = [Path(p).absolute() for p in options.path]
        kept = Compiled(options.compiled, options.optimize)
        for target, path in files(options.modules, folders, options.whole, kept, options.loader):
            print(f"{target}\t{path}")
        return
    arch = os.environ.get("BPFMATRIX_ARCH", platform.machine())
    named = options.python or os.environ.get("BPFMATRIX_PYTHON", "")
    try:
        choice = choose(named, arch)
    except UnusableError as error:
        if options.choose:
            print(json.dumps({"what": error.what, "advice": error.advice}))
        elif named:
            sys.exit(f"{error.what}. {error.advice}")
        return
    if options.choose:
        print(json.dumps(choice._asdict()))
        return
    # -I: independent of the environment's variables, and of a virtual environment.
    command = [*choice.start, "-I", "-X", "utf8", __file__, "--list", *sys.argv[1:]]
    if len(choice.start) > 1:
        command += [f"--loader={word}" for word in choice.start[:-1]]
    sys.exit(subprocess.run(command, check=False).returncode)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--whole", action="store_true", help="the whole standard library")
    arguments.add_argument("--path", action="append", default=[], help="a folder with modules")
    arguments.add_argument("--python", default="", help="the interpreter")
    arguments.add_argument("--compiled", default="", help="a folder for compiled files")
    arguments.add_argument("--optimize", type=int, default=0, help="as compile() takes it")
    arguments.add_argument("--choose", action="store_true", help="only print the interpreter")
    arguments.add_argument("--list", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--loader", action="append", default=[], help=argparse.SUPPRESS)
    arguments.add_argument("modules", nargs="*", metavar="MODULE")
    return arguments


def choose(named: str, arch: str) -> Choice:
    """Return the interpreter that is named, or else the first that will do.

    UnusableError if there is none.
    """
    if named:
        return look_at(named, arch)
    names = ["/usr/bin/python3", "python3", *(f"python{dotted(v)}" for v in reversed(SUPPORTED))]
    for name in names:
        with contextlib.suppress(UnusableError):
            return look_at(name, arch)
    raise UnusableError(
        f"this machine has no {SUPPORTED_TEXT} for {arch}",
        "Install one, or set BPFMATRIX_PYTHON to the path of one.",
    )


def look_at(name: str, arch: str) -> Choice:
    """Return the interpreter of this name or path; UnusableError says what else it is."""
    own = arch == platform.machine()
    such = ", such as /usr/bin/python3" if own else f" for {arch} that runs on this machine"
    advice = f"Name an interpreter of {SUPPORTED_TEXT}{such}."
    found = shutil.which(name)
    if not found:
        path = Path(name)
        if path.is_dir():
            raise UnusableError(f"{name} is a folder, not an interpreter", advice)
        if path.exists():
            raise UnusableError(f"{name} can't be executed", advice)
        raise UnusableError(f"{name}: there is no such interpreter", advice)
    path = Path(found).absolute()
    machine = machine_of(path)
    if machine not in ("", arch):
        raise UnusableError(f"{name} is a program for {machine}, and the guest is {arch}", advice)
    start = with_loader(path) or [str(path)]
    said = probe(start)
    if not said:
        raise UnusableError(f"{name} is not a Python interpreter, or can't run here", advice)
    kind, version, free_threaded, base = said
    shown = f"{name} is {kind or 'Python'} {dotted(version)}"
    if not kind:
        raise UnusableError(f"{shown} without its standard library: {base}", advice)
    if kind != "CPython":
        raise UnusableError(f"{shown}, and the tracer knows only CPython", advice)
    if tuple(version) not in SUPPORTED:
        raise UnusableError(f"{shown}, and the tracer knows {SUPPORTED_TEXT}", advice)
    if free_threaded:
        raise UnusableError(
            f"{shown}, a free-threaded build, which the tracer does not know", advice
        )
    packages = start
    # The executable of a virtual environment is a link to another one, or a wrapper of it.
    python = Path(base).resolve()
    if len(start) == 1 and python != path:
        start = with_loader(python) or [str(python)]
        if not probe(start):
            raise UnusableError(f"{name} starts {python}, which can't run here by itself", advice)
    if machine_of(python) != arch:
        raise UnusableError(f"{name} starts {python}, which is not for {arch}", advice)
    return Choice(str(python), (version[0], version[1]), start, packages)


def dotted(version: Iterable[int]) -> str:
    """Return the text of a version."""
    return ".".join(map(str, version))


def probe(start: list[str]) -> Any:
    """Return what PROBE tells of an interpreter; None if it is none."""
    try:
        done = subprocess.run(
            [*start, "-E", "-s", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=60,
        )
        said = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return said if isinstance(said, list) and len(said) == 4 else None


def machine_of(path: Path) -> str:
    """Return the architecture of an ELF file of 64 bits; empty if it is another file."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return ""
    if head[:5] != b"\x7fELF\x02" or len(head) < 20:  # another file, or one that is cut off
        return ""
    order = "<" if head[5] == 1 else ">"
    number: int = struct.unpack_from(order + "H", head, 18)[0]
    return MACHINES.get(number, f"machine {number}")


def with_loader(python: Path) -> list[str]:
    """Return the words that start the interpreter of an unpacked root; empty if it is in none."""
    interpreter = loader_of(python)
    places = [interpreter.lstrip("/"), f"usr{interpreter}"] if interpreter else []
    for root in list(python.resolve().parents)[:-1]:
        loader = next((root / place for place in places if (root / place).is_file()), None)
        if loader and Path(interpreter).exists() and loader.samefile(interpreter):
            return []
        if loader:
            names = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib")
            folders = [f for n in names for f in (root / n, *root.glob(f"{n}/*-linux-gnu*"))]
            paths = ":".join(str(folder) for folder in folders if folder.is_dir())
            # sys.executable is argv[0], from which Python finds its library.
            words = ["--library-path", paths, "--argv0", str(python), str(python)]
            return [str(loader), *words]
    return []


def loader_of(executable: Path) -> str:
    """Return the dynamic loader that an ELF file of 64 bits names (PT_INTERP); empty if none."""
    try:
        data = executable.read_bytes()
        if data[:6] != b"\x7fELF\x02\x01":
            return ""
        (table,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        for number in range(count):
            kind, _, offset, _, _, length = struct.unpack_from(
                "<IIQQQQ", data, table + number * size
            )
            if kind == 3:
                return data[offset : offset + length].rstrip(b"\0").decode()
    except (OSError, struct.error, ValueError):
        pass
    return ""


class Compiled:
    """Compiled files in place of sources: those that are up to date, or made in `folder`."""

    def __init__(self, folder: str, optimize: int) -> None:
        """Without a folder, nothing is made; `optimize` is 1 for -O and 2 for -OO."""
        self._folder = Path(folder) if folder else None
        self._optimize = optimize

    def of(self, source: Path) -> Path | None:
        """Return the compiled file of a source, if there is one."""
        if source.suffix != ".py":
            return None
        return self._up_to_date(source) or (self._made(source) if self._folder else None)

    def _up_to_date(self, source: Path) -> Path | None:
        """Return the .pyc of a source, if there is one that the interpreter would use."""
        level = str(self._optimize) if self._optimize else ""
        path = Path(importlib.util.cache_from_source(str(source), optimization=level))
        try:
            head, stat = path.read_bytes()[:16], source.stat()
        except OSError:
            return None
        flags, mtime, size = (int.from_bytes(head[n : n + 4], "little") for n in (4, 8, 12))
        good = head[:4] == importlib.util.MAGIC_NUMBER and len(head) == 16
        same = (mtime, size) == (int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
        return path if good and same and not flags & FLAG_HASHED else None

    def _made(self, source: Path) -> Path | None:
        """Return the file that is compiled from a source; None if it can't be compiled."""
        try:
            stat = source.stat()
            key = f"{source}\0{stat.st_mtime_ns}\0{stat.st_size}\0{sys.version}\0{self._optimize}"
            name = f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:32]}.pyc"
            assert self._folder
            path = self._folder / name[:2] / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                py_compile.compile(
                    str(source), str(path), doraise=True, optimize=self._optimize, quiet=2
                )
        except (OSError, ValueError, py_compile.PyCompileError, RecursionError):
            return None  # the guest's Python will report what is wrong with it
        return path


def files(
    modules: list[str], folders: list[Path], whole: bool, compiled: Compiled, loader: list[str]
) -> Iterator[tuple[str, Path]]:
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
    found = {"bin/python3": interpreter}
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
            if is_below(path, folder):
                found.update([placed(f"{name}/{path.relative_to(folder)}", path, compiled)])
    for name, path in libraries(interpreter, extensions, loader):
        found[f"lib/{name}"] = path
    yield from sorted(found.items())


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder; Python 3.8 has no Path.is_relative_to."""
    return folder in path.parents


def placed(target: str, path: Path, compiled: Compiled) -> tuple[str, Path]:
    """Return a module's place in the payload and its file, which is compiled if it can be."""
    made = compiled.of(path)
    return (f"{target}c", made) if made else (target, path)


def libraries(
    interpreter: Path, extensions: Iterable[Path], loader: list[str]
) -> Iterator[tuple[str, Path]]:
    """Yield the names and paths of the shared libraries and the dynamic loader that these need.

    `loader` has the words that start the dynamic loader of an unpacked root. Without it, the loader
    is the one that the interpreter names, which need not be that of ldd.
    """
    words = loader[: loader.index("--argv0")] if loader else [loader_of(interpreter)]
    if not words[0]:
        return  # it is statically linked
    found = dict(needed(words, interpreter))
    # An RPATH of the interpreter holds for what it loads later, too.
    folders = list(dict.fromkeys(path.parent for path in found.values()))
    if not loader:
        words = [*words, "--library-path", ":".join(map(str, folders))]
    for extension in extensions:
        for name, path in needed(words, extension):
            found.setdefault(name, path)
    found[Path(loader_of(interpreter)).name] = Path(words[0])
    for name in LOADED_BY_LIBC:
        places = [found["libc.so.6"].parent / name] if "libc.so.6" in found else []
        for path in (*places, *(folder / name for folder in folders)):
            if path.is_file():
                found.setdefault(name, path)
    yield from found.items()


def needed(loader: list[str], executable: Path) -> Iterator[tuple[str, Path]]:
    """Yield the libraries that a dynamic loader finds for an executable or a library."""
    # "libc.so.6 => /lib/libc.so.6 (0x...)", and the loader as "/lib64/ld-linux-x86-64.so.2 (0x...)"
    said = output_of([*loader, "--list", str(executable)])
    for match in re.finditer(r"^\t(?:(\S+) => )?(/.*) \(0x[0-9a-f]+\)$", said, re.MULTILINE):
        yield Path(match[1] or match[2]).name, Path(match[2])


def output_of(command: list[str]) -> str:
    """Return what a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    main()
