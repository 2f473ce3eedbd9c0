"""The result of a kernel's build: the folder `ci-kernels/<version>` and its `build.json`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.sources import BuildSource
from bpfmatrix.host.architecture import DEFAULT
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.kernels.build import configuration
from bpfmatrix.kernels.build.configuration import Requested
from bpfmatrix.kernels.image import Package

__all__ = [
    "DESCRIPTION",
    "FORMAT",
    "BuiltKernel",
    "existing",
    "folder_of",
    "is_current",
    "key_of",
    "load",
    "requested_options",
]

FORMAT = 1
DESCRIPTION = "build.json"


@dataclass(frozen=True)
class BuiltKernel:
    """A kernel that was built."""

    folder: Path
    version: str
    """The version of the sources: `6.1.192`."""
    release: str
    """What `uname -r` says."""
    source: str
    """Where the sources are from, for people: `kernel.org, signature not checked`."""
    packages: tuple[Package, ...]
    """What the sources were unpacked from."""
    unknown: tuple[str, ...]
    """The options that were asked for and that this version does not have."""
    seconds: float
    """How long make took."""
    key: str
    """A digest of what was asked for: the same for the same source and fragments."""

    @property
    def modules(self) -> Path:
        """The folder `lib/modules`, which exists if a fragment asked for modules."""
        return self.folder / "lib/modules"


def folder_of(source: BuildSource, arch: str, root: Path) -> Path:
    """Return the folder of a build's result; `root` is the folder of kernels.yaml."""
    name = source.version if arch == DEFAULT.name else f"{source.version}-{arch}"
    return root / "ci-kernels" / re.sub(r"[^\w.+~-]", "_", name)


def existing(source: BuildSource, arch: str, root: Path) -> BuiltKernel | None:
    """Return the undamaged result of a build of this source with its fragments as they are now."""
    built = load(folder_of(source, arch, root))
    if built is None or built.key != key_of(source, arch, requested_options(source, arch, root)):
        return None
    return built


def load(folder: Path) -> BuiltKernel | None:
    """Read the result in a folder; None if there is none, or its vmlinuz is damaged."""
    try:
        data = json.loads((folder / DESCRIPTION).read_bytes())
        built = BuiltKernel(
            folder=folder,
            version=data["version"],
            release=data["release"],
            source=data["source"],
            packages=tuple(Package(**package) for package in data["packages"]),
            unknown=tuple(data["unknown"]),
            seconds=data["seconds"],
            key=data["key"],
        )
        if data["format"] != FORMAT or sha256_of(folder / "vmlinuz") != data["sha256"]["vmlinuz"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return built


def is_current(source: BuildSource, arch: str, root: Path, image_digest: str) -> bool:
    """Whether a stored image is of the last build, and the fragments are those of that build.

    An image whose build was removed counts as current.
    """
    try:
        data = json.loads((folder_of(source, arch, root) / DESCRIPTION).read_bytes())
        digest, key = f"sha256:{data['sha256']['vmlinuz']}", data["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    if digest != image_digest:
        return False
    return bool(key == key_of(source, arch, requested_options(source, arch, root)))


def requested_options(source: BuildSource, arch: str, root: Path) -> Requested:
    """Return what the fragments of a build ask for."""
    return configuration.read(configuration.find(root, arch, source.debug, source.config))


def key_of(source: BuildSource, arch: str, requested: Requested) -> str:
    """Return the digest of all that shapes the kernel that a build gives."""
    # Not of the paths of keyrings and fragments: of the latter, the content counts.
    fields = source.model_dump(mode="json", include={"version", "origin", "suite", "url", "sha256"})
    text = json.dumps([fields, arch, source.debug, requested.text], sort_keys=True)
    return sha256(text)
