"""Root file systems from container images: ext4 images in the cache, one for each image.

`obtain` gives one, and fetches the image if it is not there. A name with a tag resolves to a digest
when it is first used, and stays there until `update`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError, UnreachableError
from bpfmatrix.host import derived, ext4, integrity, records
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels.store import require_space
from bpfmatrix.oci.image import OciImage, resolve, resolve_again, resolve_in
from bpfmatrix.oci.layers import merge
from bpfmatrix.oci.layout import LayoutFolder
from bpfmatrix.oci.reference import Reference
from bpfmatrix.rootfs.spec import RootSpec
from bpfmatrix.rootfs.tree import write_ext4

__all__ = ["RootImage", "obtain", "update"]

# To be increased when images are made in another way.
_FORMAT = 1
_FOLDER = "rootfs"
# An image that unpacks to more is damaged or hostile; the largest ones of toolchains have 10 GB.
_LIMIT_BYTES = 32 << 30
# A layer is on the disk as it is fetched, once unpacked, and once in the ext4 image. Layers unpack
# to about three times their size.
_TIMES_UNPACKED = 7
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class RootImage:
    """A root file system on a disk (`Root`)."""

    path: Path
    """The ext4 image."""
    digest: str
    """`sha256:...` of the image's manifest for this architecture."""
    name: str
    """The image's name."""
    env: dict[str, str] = field(default_factory=dict)
    """The environment variables that the image declares, such as PATH."""

    @property
    def is_host(self) -> bool:
        """See `Root`."""
        return False

    def has(self, path: str) -> bool:
        """See `Root`."""
        return ext4.has(self.path, path)

    def __str__(self) -> str:
        return f"{self.name}@{self.digest[:19]}"


@dataclass(frozen=True)
class _Resolved:
    """What a name resolved to."""

    digest: str
    env: Mapping[str, str]

    @classmethod
    def of(cls, image: OciImage) -> "_Resolved":
        return cls(image.digest, _env(image.config))


def obtain(
    spec: RootSpec,
    arch: str,
    cache: Cache,
    progress: Progress = silent,
    *,
    reread: bool = False,
) -> RootImage:
    """Return the root file system of an image for one architecture.

    It is taken from the cache, or fetched. BpfmatrixError says why it can't be had: it is an
    UnreachableError if there is no network. With `reread`, the cached file is read to see whether
    it is damaged.
    """
    if spec.layout is not None:
        layout = spec.layout
        found = resolve_in(LayoutFolder(layout), layout.tag, layout.digest, arch, str(layout))
        return _stored(str(layout), _Resolved.of(found), found, cache, progress, reread)
    assert spec.image is not None
    reference = spec.image
    with cache.lock(_FOLDER, lambda: progress(f"{reference}: waiting for another process")):
        known, image = _read(cache, reference, arch), None
        if known is None:
            image = _asked(reference, arch, progress)
        elif integrity.damage(_target(cache, known.digest), reread=reread, holes=True):
            image = _asked(reference, arch, progress, known.digest)
            if image.digest != known.digest:
                gone = known.digest[:19]
                announce(progress, f"{reference} has {gone} no more; its present image is taken")
        if image is not None:
            known = _keep(cache, reference, arch, image)
    assert known is not None
    return _stored(str(reference), known, image, cache, progress, reread)


def update(
    spec: RootSpec, arch: str, cache: Cache, progress: Progress = silent
) -> tuple[RootImage, bool]:
    """Resolve a name again; return what it names now, and whether that is new."""
    if spec.image is None:
        return obtain(spec, arch, cache, progress), False
    reference = spec.image
    before, image = _read(cache, reference, arch), resolve(reference, arch, progress)
    known = _Resolved.of(image)
    # First, so that the name still stands for the old one if that fails.
    made = _stored(str(reference), known, image, cache, progress, reread=False)
    _keep(cache, reference, arch, image)
    return made, before is None or before.digest != known.digest


def _asked(reference: Reference, arch: str, progress: Progress, digest: str = "") -> OciImage:
    """Ask the registry for an image, and if it had a digest before, for that first."""
    try:
        if digest:
            return resolve_again(reference, digest, arch, progress)
        return resolve(reference, arch, progress)
    except UnreachableError as error:
        raise UnreachableError(
            f"the image {reference} is not in the cache, and {error.what}",
            "Try again with a network, or give the folder of an OCI layout. "
            f"{error.advice}".strip(),
        ) from error


def _stored(
    name: str,
    known: _Resolved,
    image: OciImage | None,
    cache: Cache,
    progress: Progress,
    reread: bool,
) -> RootImage:
    """Return the ext4 image of what a name resolved to; it is made from `image` if needed."""

    def make(made: Path) -> None:
        if image is None:
            raise BpfmatrixError(f"another process removed the disk of {name}", "Run it again.")
        require_space(cache.root, _TIMES_UNPACKED * image.size_bytes)
        with cache.staging() as staging:
            for folder in ("layers", "files", "disk"):
                (staging / folder).mkdir()
            layers = image.download(staging / "layers", progress)
            unpacking = partial(progress, f"{name}: unpacking")
            try:
                root = merge(layers, staging / "files", lambda _path: True, _LIMIT_BYTES, unpacking)
                progress(f"{name}: making its disk")
                write_ext4(root, staging / "disk", made, name)
            except (ValueError, FileNotFoundError, RecursionError) as error:
                # Names, links, times and attributes that no file can have.
                raise BpfmatrixError(f"the image {name} can't be unpacked: {error}") from error

    target = _target(cache, known.digest)
    derived.obtain(cache, target, f"the disk of {name}", make, progress, reread=reread, holes=True)
    return RootImage(target, known.digest, name, dict(known.env))


def _target(cache: Cache, digest: str) -> Path:
    return cache.root / _FOLDER / f"{digest.removeprefix('sha256:')}-{_FORMAT}.ext4"


def _record(cache: Cache, reference: Reference, arch: str) -> Path:
    key = key_of([reference.name, reference.tag, reference.digest, arch])
    return cache.root / _FOLDER / f"{key[:32]}.resolved"


def _read(cache: Cache, reference: Reference, arch: str) -> _Resolved | None:
    """Return what a name resolved to before, or None."""
    record = _record(cache, reference, arch)
    data = records.read(record) or {}
    try:
        known = _Resolved(str(data["digest"]), {str(k): str(v) for k, v in data["env"].items()})
    except (KeyError, TypeError, AttributeError):
        return None
    integrity.touch(record)  # it is in use: see Cache.prune_derived
    return known


def _keep(cache: Cache, reference: Reference, arch: str, image: OciImage) -> _Resolved:
    """Record what a name resolved to."""
    known, record = _Resolved.of(image), _record(cache, reference, arch)
    record.parent.mkdir(parents=True, exist_ok=True)
    records.write(record, {"digest": known.digest, "env": known.env, "name": str(reference)})
    return known


def _env(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables in an image's configuration."""
    own = config.get("config")
    lines = own.get("Env") if isinstance(own, dict) else None
    pairs = [str(line).partition("=") for line in lines] if isinstance(lines, list) else []
    # The guest's shell, which sets them, takes no others.
    return {
        name: value
        for name, equals, value in pairs
        if equals and _VARIABLE.fullmatch(name) and "\0" not in value and _is_utf8(value)
    }


def _is_utf8(text: str) -> bool:
    """Whether a text of JSON has no half of a character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
