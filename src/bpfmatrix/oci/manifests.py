"""Manifests and indexes of container images, as registries send them.

The formats are those of the OCI image specification (manifest.md, image-index.md, descriptor.md)
and of Docker's image manifest, version 2, schema 2. Whatever a registry sends, the only error is
KernelUnavailableError. `name` is the image's name, for messages.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.checksum import sha256
from bpfmatrix.oci.layers import printable

__all__ = [
    "BLOB",
    "CONFIGS",
    "INDEXES",
    "LAYER",
    "MANIFEST",
    "MANIFESTS",
    "Descriptor",
    "Kind",
    "descriptors",
    "encode",
    "for_platform",
    "loads",
    "media_type",
    "no_platform",
    "parse",
    "unknown_media_type",
    "unreadable",
]

Kind = Literal["manifests", "blobs"]
"""The kinds of objects in a registry, by their names in URLs: indexes count as manifests."""
MANIFEST: Kind = "manifests"
BLOB: Kind = "blobs"

_OCI, _DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
INDEXES = (f"{_OCI}index.v1+json", f"{_DOCKER}distribution.manifest.list.v2+json")
MANIFESTS = (f"{_OCI}manifest.v1+json", f"{_DOCKER}distribution.manifest.v2+json")
CONFIGS = (f"{_OCI}config.v1+json", f"{_DOCKER}container.image.v1+json")
LAYER = re.compile(
    r"application/vnd\.oci\.image\.layer\.(nondistributable\.)?v1\.tar(\+(gzip|zstd))?"
    r"|application/vnd\.docker\.image\.rootfs\.(diff|foreign\.diff)\.tar(\.(gzip|zstd))?"
)


@dataclass(frozen=True)
class Descriptor:
    """What a manifest or an index says of another object of the registry."""

    media_type: str
    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    size_bytes: int
    platform: str = ""
    """`linux/amd64`, in an index; empty elsewhere."""

    @classmethod
    def to(cls, media_type: str, data: bytes) -> "Descriptor":
        """Describe an object that is made here."""
        return cls(media_type, f"sha256:{sha256(data)}", len(data))

    def as_json(self, **more: Any) -> dict[str, Any]:
        """Return it as manifests and indexes have it (descriptor.md), with more of its keys."""
        own: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size_bytes,
        }
        if self.platform:
            system, _, architecture = self.platform.partition("/")
            own["platform"] = {"architecture": architecture, "os": system}
        return own | more

    @property
    def sha256(self) -> str:
        """The digest's hexadecimal digits."""
        return self.digest.removeprefix("sha256:")

    @classmethod
    def of(cls, data: Any, name: str) -> "Descriptor":
        """Read a descriptor of the image `name`."""
        try:
            platform = data.get("platform") or {}
            size = data["size"]  # JSON has no integers: this may be infinite, or a Boolean
            if type(size) is not int or not 0 <= size < 1 << 63:
                raise unreadable(name)
            made = cls(
                str(data["mediaType"]),
                str(data["digest"]),
                size,
                f"{platform.get('os')}/{platform.get('architecture')}" if platform else "",
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise unreadable(name) from None
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", made.digest):
            raise KernelUnavailableError(f"{name}: {made.digest[:80]!r} is not a sha256 digest")
        return made


def encode(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest or an index as JSON, the same to the byte for the same content."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def loads(data: bytes) -> Any:
    """Read JSON that somebody else wrote; ValueError whatever is wrong with it."""
    try:
        return json.loads(data)
    except RecursionError as error:  # thousands of brackets
        raise ValueError("it is nested too deeply") from error


def parse(data: bytes, name: str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        found = loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise unreadable(name)
    return found


def media_type(manifest: Mapping[str, Any], name: str) -> str:
    """Return one of `INDEXES` or `MANIFESTS`."""
    # A manifest that is also an index would be two images, one for each kind of reader.
    if "layers" in manifest and "manifests" in manifest:
        raise unreadable(name)
    found = manifest.get("mediaType")
    if found is None:  # it may be left out (image-index.md)
        found = INDEXES[0] if "manifests" in manifest else MANIFESTS[0]
    if found not in INDEXES + MANIFESTS or manifest.get("schemaVersion") != 2:
        raise unknown_media_type(name, str(found))
    return str(found)


def descriptors(entries: object, name: str) -> tuple[Descriptor, ...]:
    """Read a list of descriptors, such as a manifest's `layers`."""
    if not isinstance(entries, list):
        raise unreadable(name)
    return tuple(Descriptor.of(entry, name) for entry in entries)


def for_platform(index: Mapping[str, Any], platform: str, name: str) -> Descriptor:
    """Return the manifest that an index has for a platform."""
    found = descriptors(index.get("manifests"), name)
    for entry in found:
        if entry.platform == platform:
            return entry
    # Attestations have the platform unknown/unknown.
    others = sorted({e.platform for e in found if "unknown" not in e.platform} - {""})
    raise no_platform(name, platform, others)


def unreadable(name: str) -> KernelUnavailableError:
    """Return the error for a manifest or an index that is malformed."""
    return KernelUnavailableError(f"{name}: the registry's description of the image can't be read")


def unknown_media_type(name: str, found: str) -> KernelUnavailableError:
    """Return the error for an object that is not part of a container image."""
    return KernelUnavailableError(
        f"{name} holds something of the unknown media type {printable(found, 100)}",
        "Expected: container images of Docker's or OCI's format, with tar layers that are "
        "plain, gzip or zstd.",
    )


def no_platform(name: str, platform: str, others: Sequence[str]) -> KernelUnavailableError:
    """Return the error for an image that is for other platforms only."""
    return KernelUnavailableError(
        f"{name} is not for {platform}",
        f"It is for {', '.join(others)}: set `arch` in kernels.yaml." if others else "",
    )
