"""Tables and lists of the tasks that look at things: kernels, objects, archives, this machine."""

import dataclasses
import json
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from bpfmatrix import kernels
from bpfmatrix.cli.console import make_console
from bpfmatrix.cli.doctor import Check
from bpfmatrix.config.project import Project
from bpfmatrix.guest.cpio import unpack
from bpfmatrix.kernels.build import BuiltKernel
from bpfmatrix.kernels.catalogue import Offer
from bpfmatrix.payload import ebpf
from bpfmatrix.payload.incremental import BuiltFiles
from bpfmatrix.vm import template

__all__ = [
    "print_archive",
    "print_built",
    "print_checks",
    "print_kernel_build",
    "print_kernels",
    "print_objects",
    "print_offers",
]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_checks(found: Sequence[Check]) -> bool:
    """Print what `doctor` found; tell whether everything is there."""
    table, console = _table("", "", ""), make_console()
    table.show_header = False
    for check in found:
        mark = Text("ok", "green") if check.fine else Text("missing", "red")
        table.add_row(mark, check.name, check.found)
    console.print(table)
    broken = [check for check in found if not check.fine]
    packages = [c.fix.removeprefix(_INSTALL) for c in broken if c.fix.startswith(_INSTALL)]
    console.print()
    for check in broken:
        if not check.fix.startswith(_INSTALL):
            console.print(f"{check.name}: {check.fix}", markup=False)
    if packages:
        console.print(_INSTALL + " ".join(packages), markup=False)
    elif not broken:
        console.print("ready")
    return not broken


_INSTALL = "sudo apt-get install "


def print_kernels(project: Project, as_json: bool) -> None:
    """Print the kernels of kernels.yaml."""
    rows = [_kernel_row(project, id) for id in project.config.kernels]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = _table("kernel", "arch", "source", "newest known", "cached", "size", "age", "templates")
    for row in rows:
        cached = f"{row['version']} ({row['release']})" if row["release"] else ""
        size = f"{row['bytes'] / 1e6:.0f} MB" if row["bytes"] else ""
        columns = [row[name] or "" for name in ("kernel", "arch", "source", "newest")]
        count, template_bytes = row["templates"], row["template_bytes"]
        templates = f"{count} ({template_bytes / 1e6:.0f} MB)" if count else ""
        table.add_row(*columns, cached, size, _age(row["age_seconds"]), templates)
    make_console().print(table)


def _kernel_row(project: Project, id: str) -> dict[str, Any]:
    kernel = project.config.kernel(id)
    image = kernels.cached(kernel, project.cache)
    templates = template.of_kernel(project.cache, image.label) if image else []
    return {
        "kernel": id,
        "arch": kernel.arch,
        "source": kernel.source.summary,
        "newest": kernels.newest_available(kernel, project.cache),
        "version": image.version if image else None,
        "release": image.release if image else None,
        "digest": image.digest if image else None,
        "packages": [f"{p.name} {p.version}" for p in image.provenance.packages] if image else [],
        "bytes": image.size_bytes if image else 0,
        "age_seconds": max(0, round(time.time() - image.stored_at)) if image else None,
        "templates": len(templates),
        # Their memory is sparse: this is what they really take.
        "template_bytes": sum(found.bytes_on_disk for found in templates),
    }


def _age(seconds: int | None) -> str:
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def print_kernel_build(project: Project, built: BuiltKernel, version: str) -> None:
    """Print what a build gave, and what to do with it."""
    console = make_console()
    folder = project.relative(built.folder)
    for name in ("vmlinuz", "vmlinux", "config", "System.map"):
        size = (built.folder / name).stat().st_size
        console.print(f"{folder}/{name:<12} {size / 1e6:6.1f} MB", markup=False)
    console.print(
        f"{built.release} (built from {built.source}) in {built.seconds:.0f} s", markup=False
    )
    if built.unknown:
        console.print(f"unknown to {built.version}: {', '.join(built.unknown)}", markup=False)
    # One for another architecture has a folder of another name, which no kernel's id leads to.
    if built.folder.name == version and version in project.config.kernels:
        console.print(f"run it: KERN_DIR=ci-kernels nox -s kernel-{version}", markup=False)
    else:
        console.print(f"run it: invoke run --image {folder}/vmlinuz", markup=False)


def print_offers(offers: Sequence[Offer], as_json: bool) -> None:
    """Print what the sources offer."""
    if as_json:
        print(json.dumps([dataclasses.asdict(offer) for offer in offers], indent=1))
        return
    table = _table("suite", "package", "version", "arch", "size")
    for offer in offers:
        size = f"{offer.size_bytes / 1e6:.0f} MB"
        table.add_row(offer.suite, offer.package, offer.version, offer.arch, size)
    make_console().print(table if offers else "nothing found")


def print_objects(project: Project, built: BuiltFiles) -> None:
    """Print the eBPF objects and what each needs."""
    table = _table("object", "needs")
    for path in built.files:
        release, _, feature = ebpf.requirement(path).partition(" ")
        needs = f"{release} ({feature})" if feature else release
        table.add_row(project.relative(path), needs)
    make_console().print(table)
    print("built" if built.changed else "up to date")


def print_built(project: Project, built: BuiltFiles) -> None:
    """Print the test binaries."""
    for path in built.files:
        print(f"{project.relative(path)}  {path.stat().st_size / 1e6:.1f} MB")
    print("built" if built.changed else "up to date")


def print_archive(project: Project, path: Path, archive: bytes) -> None:
    """Print what is in an initramfs: mode, size, name and a link's target."""
    for entry in unpack(archive):
        link = f" -> {entry.content.decode()}" if stat.S_ISLNK(entry.mode) else ""
        size = 0 if link else len(entry.content)
        print(f"{stat.filemode(entry.mode)} {size:>9} {entry.name}{link}")
    print(f"{project.relative(path)}  {len(archive) / 1e6:.1f} MB")
