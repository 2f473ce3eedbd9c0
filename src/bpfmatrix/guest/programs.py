"""The guest's own small programs, for what busybox lacks: one C file of guest/c for each.

`executables` gives them for an architecture, as small static ELF executables. A wheel
brings them along (hatch_build.py); elsewhere clang builds each once, into the cache.
"""

from functools import partial
from pathlib import Path

from bpfmatrix.errors import BuildError
from bpfmatrix.host import clang, derived
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.installation import PACKAGE
from bpfmatrix.host.process import run_merged
from bpfmatrix.host.progress import Progress, silent

__all__ = ["compile_program", "digest", "executables", "sources"]

_SOURCES = PACKAGE / "guest/c"
_SHIPPED = PACKAGE / "loader"  # see hatch_build.py; a checkout has no such folder
_FLAGS = (
    *("-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror"),
    # No C library, no dynamic linker, and nothing that either would have to set up.
    *("-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-fno-stack-protector"),
    # Small files: no symbols, no unwind tables, no unused functions, no padding to whole pages.
    *("-s", "-fno-asynchronous-unwind-tables", "-fno-ident", "-ffunction-sections"),
    "-Wl,--gc-sections,--build-id=none,-z,noseparate-code,-z,norelro",
)


def executables(arch: str, cache: Cache, progress: Progress = silent) -> dict[str, bytes]:
    """Return the programs for an architecture, by their names.

    Where one has to be built: ToolMissingError if clang is missing, or lld for an architecture that
    is not the host's; BuildError with what clang said.
    """
    found = {source.stem: _executable(source, arch, cache, progress) for source in sources()}
    return {name: path.read_bytes() for name, path in found.items()}


def sources() -> list[Path]:
    """Return the C file of each program, which is named like the program."""
    return sorted(_SOURCES.glob("*.c"))


def digest(arch: str) -> str:
    """Return a checksum of what the programs for an architecture are made of.

    It takes no compiler and starts no process.
    """
    shipped = (_shipped(source, arch) for source in sources())
    files = (*sorted(_SOURCES.glob("*.[ch]")), *(path for path in shipped if path.exists()))
    contents = [(path.name, path.read_bytes()) for path in files]
    return sha256(repr((arch, _FLAGS, contents)))


def _shipped(source: Path, arch: str) -> Path:
    return _SHIPPED / f"{source.stem}-{arch}"


def _executable(source: Path, arch: str, cache: Cache, progress: Progress) -> Path:
    if (shipped := _shipped(source, arch)).exists():
        return shipped
    compiler = clang.compiler()
    stat = compiler.stat()  # of the file that a link leads to
    ingredients = (digest(arch), str(compiler.resolve()), stat.st_size, stat.st_mtime_ns)
    key = sha256(repr(ingredients))[:32]
    target = cache.root / "guest-programs" / f"{key}-{source.stem}-{arch}"
    name, make = f"the guest's program {source.stem}", partial(compile_program, source, arch)
    return derived.obtain(cache, target, name, make, progress)


def compile_program(source: Path, arch: str, target: Path) -> None:
    """Build one program for an architecture; the errors are those of `executables`."""
    compiler = clang.compiler()
    linker = clang.linker_options(compiler, arch)
    done = run_merged(
        [
            compiler,
            f"--target={ARCHITECTURES[arch].gnu_triplet}",
            *_FLAGS,
            *linker,
            "-o",
            target,
            source,
        ]
    )
    if done.returncode != 0:
        raise BuildError(
            f"{compiler.name} could not build the guest's program {source.name} for {arch}:\n"
            f"{done.stdout.strip()}"
        )
