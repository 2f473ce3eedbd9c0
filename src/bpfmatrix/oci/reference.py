"""The names of container images: in a registry (`Reference`), or in a folder (`LayoutName`).

This module is light, since `nox -l` imports it.
"""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "GRAMMAR",
    "REPOSITORY",
    "TAG",
    "LayoutName",
    "Reference",
    "image",
    "is_layout",
    "repository",
]

TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = (
    r"(?:http://)?(?:(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]+)?/)?"
    rf"{_WORD}(?:/{_WORD})*"
)
# [http://][host[:port]/]path[:tag][@digest], as in github.com/distribution/reference.
GRAMMAR = rf"^{_NAME}(?::{TAG})?(?:@sha256:[0-9a-f]{{64}})?$"
# What `repository` takes, for editors.
REPOSITORY = rf"^(?:oci:(?://)?)?{_NAME}$"


@dataclass(frozen=True)
class Reference:
    """The name of an image: `host/repository:tag`, pinned by a digest or not."""

    host: str
    repository: str
    tag: str
    digest: str
    plain: bool
    """Whether the registry is spoken to without TLS."""

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a name; ValueError if it is not of the `GRAMMAR`, or has an address that is none.

        As with docker, no host means docker.io, and a registry of the loopback has no TLS.
        """
        bare = text.removeprefix("http://")
        if not re.fullmatch(GRAMMAR, text) or (
            bare.startswith("[") and not _is_address(bare[1:].partition("]")[0])
        ):
            raise ValueError("expected the name of an image, such as debian:12")
        bare, _, digest = bare.partition("@")
        host, slash, path = bare.partition("/")
        if not slash or not (set(".:") & set(host) or host == "localhost"):
            host, path = "docker.io", bare
        if host in ("docker.io", "index.docker.io"):
            host, path = "docker.io", path if "/" in path else f"library/{path}"
        repository, _, tag = path.partition(":")
        plain = text.startswith("http://") or _is_loopback(host)
        return cls(host, repository, tag or ("" if digest else "latest"), digest, plain)

    @property
    def name(self) -> str:
        """`ghcr.io/cilium/ci-kernels`."""
        return f"{self.host}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest[:19]}' if self.digest else ''}"

    @property
    def base_url(self) -> str:
        """Where its manifests and blobs are: the OCI distribution specification's `/v2/<name>/`."""
        host = "registry-1.docker.io" if self.host == "docker.io" else self.host
        return f"{'http' if self.plain else 'https'}://{host}/v2/{self.repository}"


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def image(text: str) -> str:
    """Return the name of an image; ValueError if it is none."""
    Reference.parse(text)
    return text


def repository(text: str) -> str:
    """Return the name of a repository of a registry, without `oci:` or `oci://` before it.

    ValueError if it is none, or one with a tag: the tags are versions, ids and digests.
    """
    bare = text.removeprefix("oci:").removeprefix("//")
    try:
        found = Reference.parse(bare)
        is_right = not found.digest and ":" not in bare.rpartition("/")[2]
    except ValueError:
        is_right = False
    if not is_right or "/" not in bare.removeprefix("http://"):
        raise ValueError("expected a repository, such as registry.example/kernels, without a tag")
    return bare


def _is_loopback(host: str) -> bool:
    name = re.sub(r":\d+$", "", host).strip("[]")
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_layout(folder: Path) -> bool:
    """Tell whether a folder is an OCI image layout."""
    # Not Path.is_file, which raises OSError for a name that is too long.
    return os.path.isfile(folder / "oci-layout")  # noqa: PTH113


@dataclass(frozen=True)
class LayoutName:
    """The name of an image in a folder."""

    folder: Path
    tag: str = ""
    """Its tag in the folder's index; empty if there is one image only, or a digest."""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.folder}{tag}{f'@{self.digest[:19]}' if self.digest else ''}"
