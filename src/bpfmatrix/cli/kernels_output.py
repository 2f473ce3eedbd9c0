"""What the tasks `kernels.*` print: the kernels of kernels.yaml, what sources offer, a build."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from bpfmatrix import kernels
from bpfmatrix.cli.console import make_console, make_table, say, say_json
from bpfmatrix.cli.errors import print_error
from bpfmatrix.config import kernels_lock
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, ConfigError, DamagedError, UsageError
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels import pinned
from bpfmatrix.kernels.build import BuiltKernel
from bpfmatrix.kernels.catalogue import Offer
from bpfmatrix.kernels.symbols import debug_info as symbols
from bpfmatrix.oci.reference import Reference
from bpfmatrix.rootfs import images, spec
from bpfmatrix.vm import template

__all__ = [
    "print_kernel_build",
    "print_kernels",
    "print_offers",
    "push_kernels",
    "update_kernels",
    "update_root",
]


def print_kernels(project: Project, as_json: bool) -> None:
    """Print the kernels of kernels.yaml."""
    rows = [_kernel_row(project, id) for id in project.config.kernels]
    if as_json:
        say_json(rows)
        return
    has_pins = any(row["pinned"] for row in rows)
    names = ("kernel", "arch", "source", "newest", *(["pinned"] if has_pins else []))
    table = make_table(
        *("kernel", "arch", "source", "newest known", *(["pinned"] if has_pins else [])),
        *("cached", "size", "age", "templates"),
    )
    for row in rows:
        cached = f"{row['version']} ({row['release']})" if row["release"] else ""
        size = f"{row['bytes'] / 1e6:.0f} MB" if row["bytes"] else ""
        columns = [row[name] or "" for name in names]
        count, template_bytes = row["templates"], row["template_bytes"]
        templates = f"{count} ({template_bytes / 1e6:.0f} MB)" if count else ""
        table.add_row(*columns, cached, size, _age(row["age_seconds"]), templates)
    make_console().print(table)


def update_kernels(project: Project, ids: Sequence[str], progress: Progress, *, every: bool) -> int:
    """Fetch the newest releases of kernels, pin them in kernels.lock, and print what changed.

    `every` also removes the pins of kernels that kernels.yaml no longer declares. What goes wrong
    with a kernel is printed, and the others are updated. Returns an exit status.
    """
    pins, status = kernels_lock.read(project.root), 0
    for id in ids:
        kernel = project.config.kernel(id)
        before = pins.get(id) or kernels.cached(kernel, project.cache)
        try:
            image = kernels.update(kernel, project.cache, progress)
        except UsageError:
            raise  # which is of no one kernel, such as a wrong KERN_DIR
        except BpfmatrixError as error:
            print_error(error)
            status = status or error.exit_status
            continue
        same = before is not None and before.digest == image.digest
        moved = f"{before.version} → " if before and before.version != image.version else ""
        reason = pinned.reason_against(kernel)
        if not reason:
            pinned.pin(kernel, image, project.cache)
        news = f"{'still the newest' if same else 'new'}{f'; not pinned: {reason}' * bool(reason)}"
        say(f"{id:<10} {moved}{image.description}  {news}")
    gone = pinned.forget(project.root, project.config.kernels, project.cache) if every else []
    for id in gone:
        say(f"{id:<10} no longer in kernels.yaml, nor in {kernels_lock.FILE_NAME}")
    if kernels_lock.read(project.root) != pins:
        say(f"{kernels_lock.FILE_NAME} has changed; commit it, so that every machine runs these")
    return status


def update_root(
    project: Project, ids: Sequence[str], typed: str | None, progress: Progress
) -> None:
    """Resolve the name of the tests' image again, for the architectures of these kernels.

    The image is that of the command line (`typed`), or else that of kernels.yaml, if it has one.
    """
    declared = project.config.payload.rootfs
    if typed:
        root = spec.parse(typed, "--rootfs")
    elif declared and declared != "none":
        root = spec.parse(declared, "kernels.yaml: payload.rootfs", project.root)
    else:
        return
    if root.image is None:
        return  # a folder, which is always as it is
    for arch in dict.fromkeys(project.config.kernel(id).arch for id in ids):
        image, is_new = images.update(root, arch, project.cache, progress)
        say(f"{'rootfs':<10} {image} ({arch})  {'new' if is_new else 'still the newest'}")


def push_kernels(
    project: Project,
    ids: Sequence[str],
    target: Reference,
    sign: bool,
    key: str | None,
    progress: Progress,
) -> None:
    """Push kernels into a repository, and print for each what it is called there."""
    from bpfmatrix.kernels.oci import publish  # noqa: PLC0415 - a registry's client is slow to import
    from bpfmatrix.oci import signing  # noqa: PLC0415

    signer = signing.find() if sign or key else None
    publish.require_distinct_tags(
        map(project.config.kernel, ids), map(project.config.kernel, project.config.kernels)
    )
    for id in ids:
        kernel = project.config.kernel(id)
        image, _ = kernels.provide(kernel, project.cache, progress)
        try:
            image.verify()
        except DamagedError:
            image = kernels.repair(kernel, project.cache, progress)
        known = symbols.at_hand(project.root, image, project.cache)
        pushed = publish.publish(kernel, image, known, target, project.cache, progress)
        size = f"pushed {pushed.sent_bytes / 1e6:.0f} MB" if pushed.sent_bytes else "already there"
        debug = ", with its vmlinux of debug information" if pushed.has_debug_info else ""
        say(f"{id:<10} {image.description}  {size}{debug}")
        say(f"{'':<10} {target.name}:{', '.join(pushed.tags)}  {pushed.reference.digest}")
        if signer and not pushed.is_made_here:
            raise BpfmatrixError(
                f"{id} is not signed: the registry has a System.map of it, and this machine has "
                "none",
                "Push and sign it on the machine that built it.",
            )
        if signer:
            progress(f"{id}: signing with {signer.name}")
            signer.sign(pushed.reference, key)
            say(f"{'':<10} signed by {signer.name}")


def _kernel_row(project: Project, id: str) -> dict[str, Any]:
    kernel = project.config.kernel(id)
    try:
        pin = pinned.pin_of(kernel)
        pinned_to = (pin.packages[0].version or pin.version) if pin else None
        image = kernels.cached(kernel, project.cache)
    except ConfigError:
        raise
    except UsageError:  # which every run says; the other kernels are listed all the same
        pinned_to, image = "for another source or architecture", None
    templates = template.of_kernel(project.cache, image.label) if image else []
    return {
        "kernel": id,
        "arch": kernel.arch,
        "source": kernel.source.summary,
        "newest": kernels.newest_available(kernel, project.cache),
        "pinned": pinned_to,
        "version": image.version if image else None,
        "release": image.release if image else None,
        "digest": image.digest if image else None,
        "registry": (image.provenance.registry or None) if image else None,
        "packages": [f"{p.name} {p.version}" for p in image.provenance.packages] if image else [],
        "bytes": image.size_bytes if image else 0,
        "age_seconds": max(0, round(time.time() - image.stored_at)) if image else None,
        "templates": len(templates),
        # The file of a template's memory is sparse: this is what is allocated on the disk.
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
    """Print the files of a kernel that was built, and how to run it."""
    console = make_console()
    folder = project.relative(built.folder)
    for name in ("vmlinuz", "vmlinux", "config", "System.map"):
        size = (built.folder / name).stat().st_size
        console.print(f"{folder}/{name:<12} {size / 1e6:6.1f} MB")
    console.print(f"{built.release} (built from {built.source}) in {built.seconds:.0f} s")
    if built.unknown:
        console.print(f"unknown to {built.version}: {', '.join(built.unknown)}")
    # KERN_DIR finds a kernel by its id; a build for another architecture has a folder of another
    # name.
    if built.folder.name == version and version in project.config.kernels:
        run = command(f"run --kernel {version}")
        console.print(f"run it: KERN_DIR=ci-kernels {run}")
    else:
        run = command(f"run --image {folder}/vmlinuz")
        console.print(f"run it: {run}")


def print_offers(offers: Sequence[Offer], as_json: bool) -> None:
    """Print the kernel packages that the sources offer."""
    if as_json:
        say_json([dataclasses.asdict(offer) for offer in offers])
        return
    table = make_table("suite", "package", "version", "arch", "size")
    for offer in offers:
        size = f"{offer.size_bytes / 1e6:.0f} MB"
        table.add_row(offer.suite, offer.package, offer.version, offer.arch, size)
    make_console().print(table if offers else "nothing found")
