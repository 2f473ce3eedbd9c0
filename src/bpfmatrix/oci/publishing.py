"""Images that are pushed: one for each platform, and the indexes that have all platforms of a tag.

A registry has no way to change a tag only if it is what it was before, so two pushes that each add
a platform to an index could each undo the other's. Therefore each image also has a tag of its own,
`<tag>-linux-<architecture>`, and an index is made of what these tags name. Whoever pushes sets its
own tag, makes the index, and looks again: whichever index comes last was made before the last look
at the tags, so it has all of them, or else is made again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.oci import manifests, packing
from bpfmatrix.oci.manifests import BLOB, CONFIGS, INDEXES, MANIFEST, MANIFESTS, Descriptor
from bpfmatrix.oci.packing import Content
from bpfmatrix.oci.registry import GoneError, RegistryClient

__all__ = ["TAG_LIMIT", "NewImage", "Pushed", "attach", "find", "push", "tag_index"]

# An index is made again this often before the tags of its images are said to change too fast.
_ATTEMPTS = 10
# "at most 128 characters" (OCI distribution specification, "Pulling manifests").
TAG_LIMIT = 128 - max(len(f"-{a.oci_platform}") for a in ARCHITECTURES.values())
"""How long the tag of an index can be, so that each platform's own tag can be one as well."""
# The configuration of what is no image (manifest.md, "Guidance for an Empty Descriptor").
_EMPTY = (Descriptor.to("application/vnd.oci.empty.v1+json", b"{}"), b"{}")


@dataclass(frozen=True)
class NewImage:
    """An image that can be pushed."""

    platform: str
    """`linux/amd64`."""
    layers: Sequence[Content]
    annotations: Mapping[str, str]

    def config(self) -> dict[str, Any]:
        """Return its configuration (config.md of the OCI image specification)."""
        system, _, architecture = self.platform.partition("/")
        return {
            "architecture": architecture,
            "os": system,
            "rootfs": {"type": "layers", "diff_ids": [packing.diff_id(x) for x in self.layers]},
        }


@dataclass(frozen=True)
class Pushed:
    """What a push came to."""

    image: Descriptor
    """The manifest of the image that the tag names."""
    is_made_here: bool
    """Whether its content is known here; False for an image that has further layers below."""
    sent_bytes: int
    """The size of the blobs that were sent; 0 if the registry had all of them."""


def find(client: RegistryClient, tag: str) -> tuple[Descriptor, dict[str, Any]] | None:
    """Return the manifest or index of a tag, or None if the registry does not have it."""
    try:
        data = client.read(MANIFEST, tag, "")
    except GoneError:
        return None
    found = manifests.parse(data, tag)
    return Descriptor.to(manifests.media_type(found, tag), data), found


def push(
    client: RegistryClient, image: NewImage, tag: str, staging: Path, progress: Progress = silent
) -> Pushed:
    """Push an image under a tag of its own, unless the tag names that image already.

    The layers are packed into the folder `staging`. Blobs that the registry has are not sent. An
    image at the tag that has all of these layers, and others below them, stays.
    """
    # They are packed even if the registry may have them. Another manifest can have the same
    # configuration and other layers, and would then be what `--sign` signs.
    layers = [_packed(client, content, staging, progress) for content in image.layers]
    config = manifests.encode(image.config())
    described = Descriptor.to(CONFIGS[0], config)
    sent = sum(size for _, size in layers)
    manifest = _manifest(described, [layer for layer, _ in layers], image.annotations)
    data = manifests.encode(manifest)
    made = Descriptor.to(MANIFESTS[0], data)
    there = find(client, tag)
    if there and _is_richer(there[1], manifest):
        return Pushed(replace(there[0], platform=image.platform), False, sent)
    if there is None or there[0].digest != made.digest:
        sent += _send(client, described, config, silent)
        client.push_manifest(tag, data, MANIFESTS[0])
    return Pushed(replace(made, platform=image.platform), True, sent)


def _is_richer(found: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether a manifest of the registry has the layers of a made one, and others below them.

    Whoever made those: they can add files, but replace none.
    """
    layers, own = found.get("layers"), made["layers"]
    return (
        isinstance(layers, list)
        and len(layers) > len(own)
        and layers[-len(own) :] == own
        and found.get("annotations") == made["annotations"]
    )


def attach(
    client: RegistryClient,
    subject: Descriptor,
    kind: str,
    content: Content,
    annotations: Mapping[str, str],
    staging: Path,
    progress: Progress = silent,
) -> Pushed:
    """Push an artifact of a kind beside an image; it replaces another one of this kind.

    It is found among the image's referrers. For a registry that does not list these, the list is
    kept in a tag (OCI distribution specification, "Referrers Tag Schema").
    """
    layer, sent = _packed(client, content, staging, progress)
    sent += _send(client, *_EMPTY, silent)
    data = manifests.encode(
        _manifest(_EMPTY[0], [layer], annotations)
        | {"artifactType": kind, "subject": replace(subject, platform="").as_json()}
    )
    made = Descriptor.to(MANIFESTS[0], data)
    if not client.push_manifest(made.digest, data, MANIFESTS[0]):
        tag = subject.digest.replace(":", "-")
        there = find(client, tag)
        others = _entries(client, tag, *there) if there else []
        kept = [other for other in others if other.get("artifactType") != kind]
        entry = made.as_json(artifactType=kind, annotations=dict(annotations))
        client.push_manifest(tag, _index([*kept, entry], {}), INDEXES[0])
    return Pushed(made, True, sent)


def tag_index(
    client: RegistryClient, tag: str, image: Descriptor, annotations: Mapping[str, str]
) -> Descriptor:
    """Let a tag name an index with an image, and with the images of the tag for other platforms.

    `image` has a platform, and was pushed. The annotations are those of the index. Returns the
    index.
    """
    own = _platform_tag(tag, image.platform)
    data = client.read(MANIFEST, image.digest, image.digest)
    client.push_manifest(own, data, image.media_type)
    for _ in range(_ATTEMPTS):
        there = find(client, tag)
        data = _index(_merged(client, tag, there), annotations)
        made = Descriptor.to(INDEXES[0], data)
        if there and there[0].digest == made.digest:
            return made
        client.push_manifest(tag, data, INDEXES[0])
    raise BpfmatrixError(
        f"the tag {tag} was changed by others each time that it was written",
        "Push again when they are done.",
    )


def _merged(
    client: RegistryClient, tag: str, there: tuple[Descriptor, Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """Return what the index of a tag has to contain, sorted by platform.

    That is the image of each platform's tag, and what the tag names now for other platforms.
    """
    found: dict[str, dict[str, Any]] = {}
    for architecture in ARCHITECTURES.values():
        platform = architecture.oci_platform
        if own := find(client, _platform_tag(tag, platform)):
            image = replace(own[0], platform=platform)
            found[platform] = image.as_json(annotations=own[1].get("annotations", {}))
    # Of one platform, others may have several: variants of arm, and attestations, whose platform
    # is unknown/unknown.
    others = [
        (platform, entry)
        for entry in (_entries(client, tag, *there) if there else [])
        if (platform := Descriptor.of(entry, tag).platform) not in found
    ]
    return [entry for _, entry in sorted([*found.items(), *others], key=lambda one: one[0])]


def _entries(
    client: RegistryClient, tag: str, found: Descriptor, manifest: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the entries of the index that a tag names; one entry if it names an image."""
    if found.media_type in INDEXES:
        manifests.descriptors(manifest.get("manifests"), tag)  # or KernelUnavailableError
        return list(manifest["manifests"])
    config = Descriptor.of(manifest.get("config"), tag)
    platform = ""
    if config.media_type in CONFIGS:
        facts = manifests.parse(client.read(BLOB, config.digest, config.digest), tag)
        platform = f"{facts.get('os')}/{facts.get('architecture')}"
    return [replace(found, platform=platform).as_json()]


def _platform_tag(tag: str, platform: str) -> str:
    return f"{tag}-{platform.replace('/', '-')}"


def _packed(
    client: RegistryClient, content: Content, staging: Path, progress: Progress
) -> tuple[Descriptor, int]:
    """Pack and push a layer; return it, and how many bytes were sent."""
    whole = sum(len(x) if isinstance(x, bytes) else x.stat().st_size for x in content.values())

    def show(done: int) -> None:
        progress(f"packing {whole / 1e6:.0f} MB", done / whole if whole else None)

    path = staging / "layer"
    path.unlink(missing_ok=True)
    layer = packing.pack(content, path, show)
    sent = _send(client, layer, path, progress)
    path.unlink()
    return layer, sent


def _send(
    client: RegistryClient, blob: Descriptor, content: Path | bytes, progress: Progress
) -> int:
    text = f"pushing {blob.size_bytes / 1e6:.0f} MB"

    def show(there: int, whole: int) -> None:
        progress(text, there / whole if whole else None)

    return blob.size_bytes if client.push_blob(blob, content, show) else 0


def _manifest(
    config: Descriptor, layers: Iterable[Descriptor], annotations: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFESTS[0],
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
        "annotations": dict(annotations),
    }


def _index(entries: Iterable[Mapping[str, Any]], annotations: Mapping[str, str]) -> bytes:
    return manifests.encode(
        {
            "schemaVersion": 2,
            "mediaType": INDEXES[0],
            "manifests": list(entries),
            "annotations": dict(annotations),
        }
    )
