"""Checks of the executables that the guest is to run, before a machine is started for them."""

import mmap
from pathlib import Path, PurePosixPath

from bpfmatrix.errors import PayloadError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.payload.elf_facts import ElfFacts
from bpfmatrix.payload.model import Executable, Format
from bpfmatrix.rootfs.root import Root

__all__ = ["check_loader", "executable"]


def executable(path: Path, arch: str, root: Root | None = None) -> Executable:
    """Return a file as an `Executable`; PayloadError says why the guest could not run it.

    `root` is the root of the tests. Without one, the guest has no interpreters but busybox's shell,
    and no libraries.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise PayloadError(f"{path} can't be read: {error.strerror}") from error
    if head.startswith(b"#!"):
        _check_interpreter(path, head, root)
        return Executable(path, "auto")
    if not head.startswith(b"\x7fELF"):
        raise PayloadError(
            f"{path} is neither an ELF executable nor a script",
            "Give a static executable, or a script that begins with #!/bin/sh.",
        )
    _check_elf(path, arch, root)
    return Executable(path, _format(path))


def _check_interpreter(path: Path, head: bytes, root: Root | None) -> None:
    line = head.splitlines()[0][2:].decode(errors="replace").split()
    if root is not None:
        if line:
            _check_needed(path, line[0], root)
        return
    if line and PurePosixPath(line[0]).name == "env":
        line = [word for word in line[1:] if not word.startswith("-")]
    # The guest only has the commands of busybox; /bin, /sbin, /usr/bin and /usr/sbin are the same.
    if line and PurePosixPath(line[0]).name not in ("sh", "ash", "busybox"):
        raise PayloadError(
            f"{path} needs {line[0]}, which the guest does not have",
            "Write it for /bin/sh, build a static executable, or give the tests a root (--rootfs).",
        )


def _check_needed(path: Path, needed: str, root: Root) -> None:
    if not root.has(needed):
        raise PayloadError(
            f"{path} needs {needed}, which {root} does not have",
            "Install it there, or build a static executable.",
        )


def _check_elf(path: Path, arch: str, root: Root | None) -> None:
    facts = ElfFacts.read(path)
    if facts.type == "ET_REL":
        raise PayloadError(f"{path} is an object file and can't be run", "Link it first.")
    if facts.machine != ARCHITECTURES[arch].elf_machine:
        raise PayloadError(
            f"{path} is built for {facts.machine_name}, the guest is {arch}",
            f"Build it for {arch}.",
        )
    check_loader(path, facts.loader, root)


def check_loader(path: Path, loader: str, root: Root | None) -> None:
    """PayloadError if the root of the tests lacks the loader of an executable, if it needs one."""
    if loader and root is not None:
        _check_needed(path, loader, root)
    elif loader:
        raise PayloadError(
            f"{path} is dynamically linked (needs {loader}) and the guest has no libraries",
            "Build it with CGO_ENABLED=0 (Go) or -static (C), or run with --rootfs host "
            "(rootfs: in kernels.yaml).",
        )


# What the libraries of test runners leave in an executable, also in a stripped one. Go's test
# binaries have the entry point of `testing`, and the magic of Go's build information
# (debug/buildinfo); one without the other may be any program that is written in Go.
_MARKS: tuple[tuple[Format, tuple[bytes, ...]], ...] = (
    ("go", (b"testing.MainStart", b"\xff Go buildinf:")),
    ("libtest", (b"RUST_TEST_THREADS", b"test result: ")),
    ("gtest", (b"gtest_", b"tests written using Google Test")),
    ("gtest", (b"_ZN7testing8internal23MakeAndRegisterTestInfo",)),  # in a shared library
    ("catch2", (b"Run with -? for options", b"Catch")),
)


def _format(path: Path) -> Format:
    """Return how the output of an executable is read, by the runner that is linked into it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for format, marks in _MARKS:
            if all(data.find(mark) >= 0 for mark in marks):
                return format
    return "auto"
