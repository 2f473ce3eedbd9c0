"""What the tasks print that build what runs in the guest: objects, test binaries, an initramfs."""

import stat
from pathlib import Path

from bpfmatrix.cli.console import make_console, make_table, say
from bpfmatrix.config.project import Project
from bpfmatrix.guest.cpio import unpack
from bpfmatrix.payload import ebpf
from bpfmatrix.payload.go import BuiltTests
from bpfmatrix.payload.incremental import BuiltFiles

__all__ = ["print_initramfs", "print_objects", "print_test_binaries"]


def print_objects(project: Project, built: BuiltFiles) -> None:
    """Print the eBPF objects, and the release and feature of the kernel that each needs."""
    table = make_table("object", "needs")
    for path in built.files:
        release, _, feature = ebpf.requirement(path).partition(" ")
        needs = f"{release} ({feature})" if feature else release
        table.add_row(project.relative(path), needs)
    make_console().print(table)
    say("built" if built.changed else "up to date")


def print_test_binaries(project: Project, built: BuiltTests) -> None:
    """Print the test binaries and their sizes."""
    for test in built.tests:
        say(f"{project.relative(test.path)}  {test.path.stat().st_size / 1e6:.1f} MB")
    say("built" if built.changed else "up to date")


def print_initramfs(project: Project, path: Path, archive: bytes) -> None:
    """Print the files of an initramfs: mode, size, name, and the target of a symbolic link."""
    for entry in unpack(archive):
        link = ""
        if stat.S_ISLNK(entry.mode):
            link = f" -> {entry.content.decode(errors='replace')}"
        size = 0 if link else len(entry.content)
        say(f"{stat.filemode(entry.mode)} {size:>9} {entry.name}{link}")
    say(f"{project.relative(path)}  {len(archive) / 1e6:.1f} MB")
