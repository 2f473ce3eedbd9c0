"""The name of a container image: registry, repository, and a tag or a digest."""

import ipaddress
import re
from dataclasses import dataclass

__all__ = ["GRAMMAR", "TAG", "Reference"]

TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
# [http://][host[:port]/]path[:tag][@digest], as in github.com/distribution/reference.
GRAMMAR = (
    r"^(?:http://)?(?:(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]+)?/)?"
    rf"{_WORD}(?:/{_WORD})*"
    rf"(?::{TAG})?(?:@sha256:[0-9a-f]{{64}})?$"
)


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
        """Read a name; ValueError if it is not of the `GRAMMAR`.

        As with docker, no host means docker.io, and a registry of the loopback has no TLS.
        """
        if not re.fullmatch(GRAMMAR, text):
            raise ValueError("expected the name of an image, such as debian:12")
        bare = text.removeprefix("http://")
        bare, _, digest = bare.partition("@")
        host, slash, path = bare.partition("/")
        if not slash or not (set(".:") & set(host) or host == "localhost"):
            host, path = "docker.io", bare if slash else f"library/{bare}"
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


def _is_loopback(host: str) -> bool:
    name = re.sub(r":\d+$", "", host).strip("[]")
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
