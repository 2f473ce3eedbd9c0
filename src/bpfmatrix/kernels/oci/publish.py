"""Kernels as images of container registries, in the layout that the `oci` source reads.

The layout is that of cilium/ci-kernels: `boot/vmlinuz` and `lib/modules/<release>`. There are also
`boot/config`, `boot/System.map` and `boot/vmlinux.btf`, the bytes of /sys/kernel/btf/vmlinux, where
they are known, and `boot/provenance.json`. Nothing in an image depends on when or where it was
made. System.map has a layer of its own: so an image without it has the same other layers, and does
not replace the one that has it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from urllib.parse import quote

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import UsageError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.formats.btf import btf_of
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.oci.by_digest import tag_of
from bpfmatrix.kernels.store import require_space
from bpfmatrix.kernels.symbols.debug_info import Symbols
from bpfmatrix.oci import publishing
from bpfmatrix.oci.packing import Content
from bpfmatrix.oci.publishing import TAG_LIMIT, NewImage
from bpfmatrix.oci.reference import TAG, Reference
from bpfmatrix.oci.registry import RegistryClient

__all__ = [
    "DEBUG_INFO",
    "PublishedKernel",
    "digest_tag",
    "publish",
    "require_distinct_tags",
    "tags_of",
]

DEBUG_INFO = "application/vnd.bpfmatrix.kernel.debug.v1"
"""The artifact type of a kernel's vmlinux with DWARF."""
# Annotations that have no name in the OCI image specification.
_OWN = "bpfmatrix.kernel"
# The kernel's COPYING.
_LICENSES = "GPL-2.0-only WITH Linux-syscall-note"


@dataclass(frozen=True)
class PublishedKernel:
    """What a push came to."""

    reference: Reference
    """The image that the tags name, by the digest of its manifest."""
    is_made_here: bool
    """Whether all of it is known here. False if the registry has a System.map of this kernel, and
    this host does not."""
    tags: tuple[str, ...]
    sent_bytes: int
    """The size of what was sent; 0 if the registry had all of it."""
    has_debug_info: bool


def publish(
    kernel: KernelConfig,
    image: KernelImage,
    symbols: Symbols | None,
    target: Reference,
    cache: Cache,
    progress: Progress = silent,
) -> PublishedKernel:
    """Push a kernel, whose files were verified, into the repository of `target`, with its tags.

    `symbols` are those that are at hand; their vmlinux becomes an artifact beside the image if it
    has DWARF. KernelUnavailableError says why the registry can't be had, or does not take it.
    """
    debug_bytes = symbols.vmlinux.stat().st_size if symbols else 0
    require_space(cache.root, max(image.size_bytes, debug_bytes))
    client = RegistryClient(target, may_push=True)
    annotations = _annotations(image)
    made = NewImage(
        ARCHITECTURES[image.arch].oci_platform,
        tuple(filter(None, (_boot(image), _modules(image), _system_map(symbols)))),
        annotations,
    )

    def show(text: str, fraction: float | None = None) -> None:
        progress(f"{kernel.id}: {text}", fraction)

    with cache.staging() as staging:
        show(f"asking {target.host}")
        pushed = publishing.push(client, made, digest_tag(image), staging, show)
        sent = pushed.sent_bytes
        if has_debug_info := symbols is not None and symbols.has_types:
            assert symbols is not None
            path = f"usr/lib/debug/boot/vmlinux-{image.release}"
            debug = publishing.attach(
                *(client, pushed.image, DEBUG_INFO, {path: symbols.vmlinux}),
                *(annotations, staging, show),
            )
            sent += debug.sent_bytes
    tags = tags_of(kernel, image)
    for tag in tags:
        publishing.tag_index(client, tag, pushed.image, _of_index(annotations))
    reference = Reference(target.host, target.repository, "", pushed.image.digest, target.plain)
    return PublishedKernel(reference, pushed.is_made_here, tags, sent, has_debug_info)


def digest_tag(image: KernelImage) -> str:
    """Return the tag that names this kernel, its configuration and its modules, and no others."""
    return tag_of(image.digest, image.files_digest())


def tags_of(kernel: KernelConfig, image: KernelImage) -> tuple[str, ...]:
    """Return the tags of the indexes that a kernel is in: its version, and its id.

    The id is without an architecture at its end, so that `6.1` and `6.1-arm64` share an index. What
    it has beside a number is also in the tag of the version: `6.1-rt` is another kernel than `6.1`.
    """
    id = _id_tag(kernel)
    flavour = re.sub(r"^v?[0-9.]*[-_.]?", "", id)
    version = _usable(image.version)
    if flavour and not version.endswith(f"-{flavour}"):
        version = f"{version}-{flavour}"[:TAG_LIMIT]
    tags = (version, id)
    return tuple(dict.fromkeys(tag for tag in tags if re.fullmatch(TAG, tag)))


def require_distinct_tags(pushed: Iterable[KernelConfig], declared: Iterable[KernelConfig]) -> None:
    """UsageError if a kernel that is pushed has the tag of another declared one."""
    others = list(declared)
    for kernel in pushed:
        for other in others:
            if (other.arch, _id_tag(other)) != (kernel.arch, _id_tag(kernel)):
                continue
            if other.id != kernel.id:
                raise UsageError(
                    f"{kernel.id} and {other.id} would have the same tag, {_id_tag(kernel)}",
                    "Give one of them another id in kernels.yaml. In a tag, only letters, digits, "
                    f"'_', '.' and '-' are possible, and no more than {TAG_LIMIT} of them.",
                )


def _id_tag(kernel: KernelConfig) -> str:
    own, id = ARCHITECTURES[kernel.arch], kernel.id
    for name in (own.name, own.debian, own.go):
        id = id.removesuffix(f"-{name}")
    return _usable(id)


def _usable(text: str) -> str:
    return re.sub(r"[^\w.-]", "-", text, flags=re.ASCII)[:TAG_LIMIT]


def _boot(image: KernelImage) -> Content:
    """Return the files of `boot/`."""
    files: dict[str, Path | bytes] = {
        "boot/vmlinuz": image.vmlinuz,
        "boot/provenance.json": _provenance(image),
    }
    if image.config:
        files["boot/config"] = image.config
    if btf := btf_of(image.boot):
        files["boot/vmlinux.btf"] = btf
    return files


def _system_map(symbols: Symbols | None) -> Content:
    path = symbols.vmlinux.with_name("System.map") if symbols else None
    return {"boot/System.map": path} if path and path.exists() else {}


def _modules(image: KernelImage) -> Content:
    if image.modules is None:
        return {}
    return {
        f"lib/modules/{image.release}/{path.relative_to(image.modules)}": path
        for path in image.modules.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _provenance(image: KernelImage) -> bytes:
    facts = {
        "arch": image.arch,
        "release": image.release,
        "version": image.version,
        "digest": image.digest,
        "provenance": {
            "source": _without_folders(image.provenance.source),
            "vendor": image.provenance.vendor,
            "packages": [
                {**asdict(package), "name": _without_folders(package.name)}
                for package in image.provenance.packages
            ],
        },
    }
    return f"{json.dumps(facts, indent=1, sort_keys=True)}\n".encode()


def _annotations(image: KernelImage) -> dict[str, str]:
    """Return what the manifest says of the kernel, also to those who do not fetch it."""
    packages = image.provenance.packages
    return {
        "org.opencontainers.image.title": f"Linux {image.version} {image.arch}",
        "org.opencontainers.image.version": image.version,
        "org.opencontainers.image.licenses": _LICENSES,
        "org.opencontainers.image.source": _source(image),
        f"{_OWN}.release": image.release,
        f"{_OWN}.digest": image.digest,
        f"{_OWN}.provenance": _without_folders(image.provenance.source),
        f"{_OWN}.packages": ", ".join(
            f"{_without_folders(package.name)} {package.version}" for package in packages
        ),
    }


def _of_index(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations that hold for each architecture and release in an index."""
    name = "org.opencontainers.image.licenses"
    return {name: annotations[name]}


def _source(image: KernelImage) -> str:
    """Return where the source code is from, as a URL.

    For a package, that is a package URL (github.com/package-url/purl-spec), which names no archive.
    """
    provenance = image.provenance
    kind = {"apt": "deb", "dnf": "rpm"}.get(provenance.source.partition(" ")[0])
    if not kind or not provenance.packages:
        return _without_folders(provenance.source)
    vendor, package = provenance.vendor.lower() or "debian", provenance.packages[0]
    name, version = quote(package.name, ""), quote(package.version, "")
    arch = ARCHITECTURES[image.arch]
    arch_name = arch.debian if kind == "deb" else arch.name
    return f"pkg:{kind}/{quote(vendor, '')}/{name}@{version}?arch={arch_name}"


def _without_folders(text: str) -> str:
    """Return a text in which absolute paths of this host are reduced to their last names."""
    return " ".join(
        PurePath(word).name if word.startswith("/") else word for word in text.split(" ")
    )
