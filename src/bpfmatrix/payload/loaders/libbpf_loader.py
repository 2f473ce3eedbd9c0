"""`loader-libbpf`, built by clang: our sources in C, the pinned libbpf, and static libraries.

It is built in the same way on each host and for each architecture, with headers and libraries of
Debian's packages (`sysroot`), so that nothing but clang and a linker is taken from the host. libbpf
is compiled once for each architecture; its objects stay in the cache for the next build.
"""

import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, BuildError
from bpfmatrix.host import clang, derived
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of, sha256
from bpfmatrix.host.installation import CHECKOUT
from bpfmatrix.host.process import reason_of_end, run_merged
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload.loaders import libbpf_source, sysroot

__all__ = ["SOURCES", "build", "build_program", "check_tools", "key"]

SOURCES = CHECKOUT / "support/loaders/libbpf"
"""The folder of our own sources, which a wheel does not have."""

_SHOWN_LINES = 40
_COMMON = (
    *("-O2", "-D_FILE_OFFSET_BITS=64", "-ffunction-sections", "-fdata-sections"),
    *("-fno-asynchronous-unwind-tables", "-fno-ident", "-fno-pic", "-fno-pie"),
)
# libbpf's own warnings are for those who change it.
_LIBBPF_FLAGS = (*_COMMON, "-std=gnu11", "-D_GNU_SOURCE", "-w")
_OUR_FLAGS = (*_COMMON, "-std=gnu11", "-Wall", "-Wextra", "-Werror")
_LINK_FLAGS = ("-static", "-s", "-Wl,--gc-sections,--build-id=none")
_LIBRARIES = ("-lelf", "-lz", "-ljansson")


def key(arch: str) -> str:
    """Return a checksum of what the executable is made of; ToolMissingError without a clang."""
    files = sorted((*SOURCES.glob("*.c"), *SOURCES.glob("*.h")))
    contents = [(path.name, sha256(path.read_bytes())) for path in files]
    flags = (*_OUR_FLAGS, *_LINK_FLAGS, *_own_options(), *_LIBRARIES)
    return key_of([_libbpf_key(arch), contents, flags])


def check_tools(arch: str) -> None:
    """Raise ToolMissingError if a tool is missing that `build` needs for an architecture."""
    clang.linker_options(clang.compiler(), arch)


def build(arch: str, cache: Cache, made: Path, progress: Progress = silent) -> None:
    """Build the loader for an architecture as the file `made`; see `build_program` for errors."""
    build_program("loader-libbpf", SOURCES, _own_options(), arch, cache, made, progress)


def build_program(
    name: str,
    folder: Path,
    options: Sequence[str],
    arch: str,
    cache: Cache,
    made: Path,
    progress: Progress = silent,
) -> None:
    """Build a static program with the pinned libbpf from the *.c of a folder, as the file `made`.

    `options` are for the linker. ToolMissingError if clang is missing, or lld for an architecture
    that is not the host's; BuildError with what clang said; the errors of `libbpf_source.obtain`
    and `sysroot.obtain` where these are not in the cache.
    """
    compiler = clang.compiler()
    linker = clang.linker_options(compiler, arch)
    libraries = sysroot.obtain(arch, cache, progress)
    source = libbpf_source.obtain(cache, progress)
    with cache.staging() as staging:
        root, pinned, libbpf, ours = (
            staging / name for name in ("root", "pinned", "libbpf", "our")
        )
        _unpack(libraries, root)
        _unpack(source, pinned)
        # As relative paths, so that no path of this machine gets into the executable.
        command = [str(compiler), f"--target={ARCHITECTURES[arch].gnu_triplet}", "--sysroot=root"]
        target = cache.root / "loader-sources" / f"libbpf-{_libbpf_key(arch)[:32]}-{arch}.tar"
        objects = derived.obtain(
            cache,
            target,
            f"libbpf for {arch}",
            lambda tar: _libbpf(arch, command, staging, tar, progress),
            progress,
        )
        _unpack(objects, libbpf)
        progress(f"{name} for {arch}: compiling and linking")
        (staging / "sources").symlink_to(folder)
        includes = ("-isystem", "pinned/tools/include/uapi", "-isystem", "pinned/tools/lib")
        sources = [Path("sources", path.name) for path in sorted(folder.glob("*.c"))]
        _compile([*command, *_OUR_FLAGS, *includes], sources, ours, name)
        parts = [str(path) for part in (ours, libbpf) for path in sorted(part.glob("*.o"))]
        _run(
            [
                *(*command, *linker, *_LINK_FLAGS, *options),
                *("-o", str(made), *parts, *_LIBRARIES),
            ],
            staging,
            name,
        )


def _own_options() -> list[str]:
    """Return the options for the linker that the sources need: the words of link-options there."""
    file = SOURCES / "link-options"
    return file.read_text().split() if file.exists() else []


def _libbpf_key(arch: str) -> str:
    compiler = clang.compiler()
    stat = compiler.stat()  # of the file that a link leads to
    return key_of(
        [
            *(arch, libbpf_source.KEY, _LIBBPF_FLAGS, sysroot.KEY),
            *(str(compiler.resolve()), stat.st_size, stat.st_mtime_ns),
        ]
    )


def _libbpf(
    arch: str, command: Sequence[str], staging: Path, made: Path, progress: Progress
) -> None:
    """Compile libbpf, of the sources that are unpacked in `staging`, to a tar file of objects."""
    progress(f"loader-libbpf for {arch}: compiling libbpf {libbpf_source.VERSION}")
    includes = [f"-Ipinned/{folder}" for folder in libbpf_source.INCLUDES]
    folder = staging / "libbpf-objects"
    sources = sorted((staging / "pinned/tools/lib/bpf").glob("*.c"))
    _compile(
        [*command, *_LIBBPF_FLAGS, *includes],
        [path.relative_to(staging) for path in sources],
        folder,
        "libbpf",
    )
    with tarfile.open(made, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)


def _compile(command: Sequence[str], sources: Sequence[Path], folder: Path, name: str) -> None:
    """Compile sources, which are relative to the parent of `folder`, to objects in `folder`."""
    folder.mkdir()

    def one(source: Path) -> None:
        target = f"{folder.name}/{source.stem}.o"
        _run([*command, "-c", "-o", target, str(source)], folder.parent, name)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The first error ends the wait; those files that no compiler reads yet are left out.
        try:
            list(pool.map(one, sources))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _run(command: Sequence[str], folder: Path, name: str) -> None:
    done = run_merged(command, folder)
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()[:_SHOWN_LINES]
        raise BuildError("\n  ".join((f"{Path(command[0]).name} could not build {name}:", *lines)))


def _unpack(tar: Path, folder: Path) -> None:
    folder.mkdir()
    command = ["tar", "--extract", "--file", str(tar), "--directory", str(folder)]
    done = run_merged(command)
    if done.returncode != 0:
        raise BpfmatrixError(
            f"{tar} can't be unpacked: {reason_of_end(done.returncode, done.stdout)}",
            "Is there space left in the cache? Try again.",
        )
