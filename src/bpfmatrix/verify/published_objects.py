"""eBPF objects in container registries: fetched by their digests into the cache, and kept there.

Two formats are known:

- Inspektor Gadget's gadgets (its docs/spec/oci.md), and solo.io's BumbleBee before them: a layer of
  a media type of their own is the object.
- bpfman's bytecode images (its docs/developer-guide/shipping-bytecode.md): a container image with
  the object at its root. Here, each eBPF object anywhere in the image counts.
"""

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError, UsageError
from bpfmatrix.host import derived, integrity, records
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of, sha256_of
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels.store import require_space
from bpfmatrix.oci import manifests
from bpfmatrix.oci.image import OciImage, resolve
from bpfmatrix.oci.layers import merge
from bpfmatrix.oci.reference import Reference
from bpfmatrix.payload.ebpf import BIG_ENDIAN

__all__ = ["PublishedObject", "fetch"]

_PREFIX = "oci:"
_FOLDER = "objects"
_MEDIA_TYPES = (
    "application/vnd.gadget.ebpf.program.v1+binary",
    "application/ebpf.oci.image.program.v1+binary",
)
# An image with more is no image of objects. The largest objects that are published have some MB.
_LIMIT_BYTES = 1 << 30
# The space that an image takes while it is unpacked, as a multiple of its size: itself, its files,
# and a copy of them.
_TIMES_UNPACKED = 6


@dataclass(frozen=True)
class PublishedObject:
    """An object of an image."""

    name: str
    """Its name in results: the image's as the user has it, and behind a `#` its path there if the
    image has several."""
    path: Path


def fetch(
    text: str,
    archs: Collection[str],
    cache: Cache,
    is_object: Callable[[Path], bool],
    progress: Progress = silent,
) -> list[PublishedObject]:
    """Return the objects of an image, `oci:NAME`, or the one of `oci:NAME#PATH`.

    `archs` are the architectures of the kernels. `is_object` tells whether a file of a container
    image is one. Where a tag leads is asked each time; without a network, it is what it was before.
    UsageError if `text` names no image, or if its objects are different ones for each architecture.
    """
    bare, _, chosen = text.removeprefix(_PREFIX).removeprefix("//").partition("#")
    try:
        reference = Reference.parse(bare)
    except ValueError:
        raise UsageError(
            f"{text}: not the name of an image",
            "Expected: oci:HOST/NAME with :TAG or @sha256:DIGEST, such as oci:ghcr.io/you/it:1.",
        ) from None
    found = {arch: _files(reference, arch, cache, is_object, progress) for arch in sorted(archs)}
    files = next(iter(found.values()))
    if any(other != files for other in found.values()):
        raise UsageError(
            f"{text} has different objects for {' and '.join(found)}",
            "Verify kernels of one architecture at a time: --kernels.",
        )
    name = f"{_PREFIX}{bare}"
    if chosen and chosen not in files:
        raise UsageError(f"{name} has no object {chosen}", f"It has: {', '.join(files)}.")
    usual = _without_twins(files)
    wanted = {chosen: files[chosen]} if chosen else usual
    is_whole = len(usual) == 1 and wanted == usual
    return [
        PublishedObject(name if is_whole else f"{name}#{path}", _place(cache, sha256))
        for path, sha256 in wanted.items()
    ]


def _without_twins(files: Mapping[str, str]) -> Mapping[str, str]:
    """Leave out the same objects for big-endian machines, which have the names of such in folders.

    They can't be loaded: in the cache, nothing says which object they belong to.
    """
    others = {
        path: sha256
        for path, sha256 in files.items()
        if BIG_ENDIAN not in path.split("/")[:-1] and not path.endswith("_bpfeb.o")
    }
    return others or files


def _files(
    reference: Reference,
    arch: str,
    cache: Cache,
    is_object: Callable[[Path], bool],
    progress: Progress,
) -> Mapping[str, str]:
    """Return the SHA-256 of each object of an image, by its path there; all are in the cache."""
    key = key_of([reference.name, reference.tag, reference.digest, arch])
    record = cache.root / _FOLDER / f"{key[:32]}.resolved"
    known = _known(record, cache)
    if known is not None and reference.digest:
        return known[1]
    try:
        image = resolve(reference, arch, progress, any_kind=True)
    except UnreachableError as error:
        if known is None:
            raise UnreachableError(
                f"the image {reference} is not in the cache, and {error.what}", error.advice
            ) from error
        announce(progress, f"{error.what}; {reference} is what it was when it was last fetched")
        return known[1]
    if known is not None and known[0] == image.digest:
        return known[1]
    files = _fetched(image, cache, is_object, progress)
    records.write(record, {"digest": image.digest, "files": files, "name": str(reference)})
    return files


def _known(record: Path, cache: Cache) -> tuple[str, dict[str, str]] | None:
    """Return the image's digest and its objects, if they are in the cache and undamaged."""
    data = records.read(record) or {}
    try:
        files = {str(path): str(sha256) for path, sha256 in data["files"].items()}
        digest = str(data["digest"])
    except (KeyError, TypeError, AttributeError):
        return None
    places = [_place(cache, sha256) for sha256 in files.values()]
    if any(integrity.damage(place) for place in places):
        return None
    integrity.touch(record)  # it is in use: see Cache.prune_derived
    for place in places:
        integrity.mark_used(place)
    return digest, files


def _place(cache: Cache, sha256: str) -> Path:
    return cache.root / _FOLDER / f"{sha256}.o"


def _fetched(
    image: OciImage, cache: Cache, is_object: Callable[[Path], bool], progress: Progress
) -> dict[str, str]:
    """Fetch the layers of an image, and keep the objects in them."""
    with cache.staging() as staging:
        for name in ("layers", "files"):
            (staging / name).mkdir()
        own = tuple(layer for layer in image.layers if layer.media_type in _MEDIA_TYPES)
        is_tree = all(manifests.LAYER.fullmatch(layer.media_type) for layer in image.layers)
        # A gadget may have layers for others, such as WebAssembly.
        wanted = replace(image, layers=own or (image.layers if is_tree else ()))
        _require_room(wanted, cache)
        paths = wanted.download(staging / "layers", progress) if wanted.layers else []
        if own:
            found = {layer.sha256: path for layer, path in zip(own, paths, strict=True)}
        else:
            found = _in_tree(image.name, paths, staging / "files", is_object)
        if not found:
            kinds = ", ".join(sorted({layer.media_type for layer in image.layers}))
            raise KernelUnavailableError(
                f"there is no eBPF object in the image {image.name}",
                f"Its layers are of these media types: {kinds or 'none'}.",
            )
        files = {name: sha256_of(path) for name, path in sorted(found.items())}
        for name, sha256 in files.items():
            source = found[name]

            def make(target: Path, source: Path = source) -> None:
                shutil.copyfile(source, target)

            place = _place(cache, sha256)
            derived.obtain(cache, place, f"an object of {image.name}", make, progress)
    return files


def _require_room(image: OciImage, cache: Cache) -> None:
    """BpfmatrixError if an image is larger than one of objects can be, or than the disk has room.

    The sizes are those of the manifest; a layer that has another size is refused when it comes.
    """
    if image.size_bytes > _LIMIT_BYTES:
        raise KernelUnavailableError(
            f"the image {image.name} has more than {_LIMIT_BYTES >> 30} GiB, so it is not fetched",
            "Expected: an image of eBPF objects, which have some MB.",
        )
    require_space(cache.root, _TIMES_UNPACKED * image.size_bytes)


def _in_tree(
    name: str, layers: list[Path], folder: Path, is_object: Callable[[Path], bool]
) -> dict[str, Path]:
    """Return the eBPF objects in the tree of a container image, by their paths."""
    try:
        root = merge(layers, folder, lambda _: True, _LIMIT_BYTES)
    except BpfmatrixError as error:
        raise type(error)(f"{name}: {error.what}", error.advice) from error
    return {path: file for path, file in root.files() if is_object(file)}
