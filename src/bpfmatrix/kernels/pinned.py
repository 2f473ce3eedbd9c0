"""Kernels that kernels.lock pins: what an id is pinned to, how that is had, how it is pinned.

A pinned kernel is had from the first of these places that has exactly its content: the cache, the
repository that `registry` of kernels.yaml names, and the kernel's own source.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpfmatrix.config import kernels_lock
from bpfmatrix.config.kernels_lock import Pin
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress, announce
from bpfmatrix.kernels import sources
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.placed_images import in_kern_dir
from bpfmatrix.kernels.sources.directory import with_file_of_source
from bpfmatrix.kernels.store import Store

__all__ = [
    "REGISTRY_VARIABLE",
    "check",
    "fetch",
    "forget",
    "pin",
    "pin_of",
    "reason_against",
    "registry_of",
]

REGISTRY_VARIABLE = "BPFMATRIX_REGISTRY"


def pin_of(kernel: KernelConfig) -> Pin | None:
    """Return what kernels.lock pins a kernel to, or None if it has no say in it.

    ConfigError if the file is wrong; UsageError if kernels.yaml has another source since.
    """
    if kernel.exact or not kernel.follows_lock or not kernels_lock.exists(kernel.root):
        return None
    pinned = kernels_lock.read(kernel.root).get(kernel.plain.id)
    if pinned is None or (pinned.arch, pinned.source) == (kernel.arch, _source(kernel)):
        return pinned
    what = "source" if pinned.arch == kernel.arch else "architecture"
    raise UsageError(
        f"{kernels_lock.FILE_NAME}: kernels.{kernel.plain.id} was pinned with another {what} than "
        "kernels.yaml has now",
        f"`{command(f'kernels.update --kernel {kernel.plain.id}')}` pins what it has now.",
    )


def registry_of(kernel: KernelConfig) -> str | None:
    """Return the repository that has kernels by their digests, or None.

    UsageError if the environment variable is not the name of a repository.
    """
    name = os.environ.get(REGISTRY_VARIABLE)
    if not name:
        return kernel.registry
    from bpfmatrix.oci.reference import repository  # noqa: PLC0415

    try:
        return repository(name)
    except ValueError as error:
        raise UsageError(f"{REGISTRY_VARIABLE} is {name!r}: {error}") from error


def fetch(kernel: KernelConfig, store: Store, progress: Progress) -> KernelImage:
    """Get a pinned kernel from the registry, or else from its own source, and store it.

    KernelUnavailableError has what each of them said. The caller holds the kernel's lock.
    """
    registry, not_there = registry_of(kernel), None
    if registry:
        from bpfmatrix.kernels.oci import by_digest  # noqa: PLC0415 - it imports requests

        try:
            return by_digest.fetch(kernel, registry, store, progress)
        except BpfmatrixError as error:
            announce(progress, f"{kernel.id}: {error.what}; asking {kernel.source.summary}")
            not_there = error
    try:
        source = with_file_of_source(kernel) if kernel.source.directory else kernel
        return sources.of(source).fetch(store, progress, same=True)
    except BpfmatrixError as error:
        raise _unavailable(kernel, registry, not_there, error) from error


def check(kernel: KernelConfig, cache: Cache) -> None:
    """Ask the registry, or else the kernel's own source, whether they have a pinned kernel.

    Raises what the source said if neither has it.
    """
    if registry := registry_of(kernel):
        from bpfmatrix.kernels.oci import by_digest  # noqa: PLC0415 - it imports requests

        with contextlib.suppress(BpfmatrixError):
            by_digest.find(kernel, registry)
            return
    source = with_file_of_source(kernel) if kernel.source.directory else kernel
    sources.of(source).check(cache)


def _unavailable(
    kernel: KernelConfig,
    registry: str | None,
    not_there: BpfmatrixError | None,
    not_at_source: BpfmatrixError,
) -> KernelUnavailableError:
    """Return the error for a kernel that neither the registry nor its source gave."""
    assert kernel.pin is not None
    said = [error for error in (not_there, not_at_source) if error]
    whats, reasons = [], []
    for error in said:
        what = error.what.removeprefix(f"{kernel.id}: ").rstrip(".")
        reason = error.advice.removeprefix("The reason: ")
        whats.append(what if reason == error.advice else f"{what} ({reason.rstrip('.')})")
        reasons += [reason] if reason == error.advice else []
    ways = [
        "Try again with a network"
        if isinstance(not_at_source, UnreachableError)
        else f"`{command(f'kernels.update --kernel {kernel.id}')}` pins what its source has now"
    ]
    if registry is None:
        ways.append("let `registry` of kernels.yaml name a registry that has it")
    elif not isinstance(not_there, UnreachableError):
        push = f"`{command(f'kernels.push {kernel.id} --to {registry}')}`"
        ways.append(f"{push} on a machine that has it")
    unreachable = any(isinstance(error, UnreachableError) for error in said)
    return (UnreachableError if unreachable else KernelUnavailableError)(
        f"{kernels_lock.FILE_NAME} pins {kernel.pin.version}, which is not cached and can't be "
        f"had: {'; '.join(whats)}",
        " ".join([f"{'; or '.join(ways)}.", *filter(None, dict.fromkeys(reasons))]),
    )


def reason_against(kernel: KernelConfig) -> str:
    """Say why a kernel is not pinned, or "" if it can be."""
    if in_kern_dir(kernel.plain):
        return "KERN_DIR has it"
    if kernel.source.kind in ("build", "directory") and not registry_of(kernel):
        # Nobody else could have exactly this file.
        return "it is only on this machine, and no `registry` is named"
    return ""


def pin(kernel: KernelConfig, image: KernelImage, cache: Cache) -> None:
    """Pin a kernel to an image that is in the store: write it to kernels.lock.

    Pins of other kernels stay. Other processes may do the same at the same time.
    """
    plain = kernel.plain
    pinned = Pin(
        arch=image.arch,
        source=_source(plain),
        version=image.version,
        release=image.release,
        digest=image.digest,
        files=image.files_digest(),
        origin=image.provenance.source,
        vendor=image.provenance.vendor,
        packages=image.provenance.packages,
    )
    with cache.lock(_lock(kernel.root)):
        pins = kernels_lock.read(kernel.root)
        if pins.get(plain.id) != pinned:
            kernels_lock.write(kernel.root, {**pins, plain.id: pinned})
    # So that the next run need not look for it among all images of the store, nor read a file of
    # this host that was just copied.
    store = Store(cache)
    copied = with_file_of_source(plain) if plain.source.directory else plain
    store.point(plain.model_copy(update={"pin": pinned}), image, store.stamp(copied))


def forget(root: Path, declared: Mapping[str, Any], cache: Cache) -> list[str]:
    """Remove the pins of kernels that kernels.yaml does not declare, and return their ids."""
    with cache.lock(_lock(root)):
        pins = kernels_lock.read(root)
        gone = [id for id in pins if id not in declared]
        if gone:
            kernels_lock.write(root, {id: pins[id] for id in pins if id in declared})
    return gone


def _lock(root: Path) -> str:
    return f"kernels-lock-{sha256(str(root))[:12]}"


def _source(kernel: KernelConfig) -> dict[str, Any]:
    return kernel.source.model_dump(mode="json", exclude_defaults=True, by_alias=True)
