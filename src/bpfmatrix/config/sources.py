"""Where a kernel comes from: the models of `source` in kernels.yaml.

`Source` has one key for each kind of source, and `bpfmatrix.kernels.sources` a module that fetches
from it.
"""

import re
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from bpfmatrix.config.value_types import Sha256, Url, is_url
from bpfmatrix.oci.reference import GRAMMAR, image

__all__ = ["AptSource", "BuildSource", "DnfSource", "PackageSource", "Source"]

_LOOPBACK = re.compile(r"http://(127\.[0-9.]+|localhost|\[::1\])(:\d+)?/")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AptSource(_Model):
    """A kernel package of Debian, from the mirror of `archives`, or else that of the host's apt.

    With `mirror`, a kernel package of another distribution.
    """

    suite: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9./+-]*$")
    """The suite, such as `bookworm-security` or `trixie-backports`."""
    package: str | None = None
    """The package, or a pattern with `*`, which selects the newest match. A meta package is
    followed. Default: `linux-image-<id>.*-cloud-<architecture>`; a `mirror` has none."""
    mirror: Url | None = None
    """The URL of an archive that is not Debian's."""
    keyring: Path | None = None
    """A file with the keys that may sign the archive of `mirror`: `.gpg` or armored `.asc`.
    Ubuntu's is `ubuntu-archive-keyring.gpg` of its package `ubuntu-keyring`."""
    components: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$")]] = Field(
        default=["main"], min_length=1
    )
    """The components of the archive."""

    @model_validator(mode="after")
    def _own_mirror(self) -> "AptSource":
        if self.mirror and not self.keyring:
            raise ValueError(
                "a `mirror` needs a `keyring`: a file with the keys that may sign the archive"
            )
        if self.mirror and not self.package:
            raise ValueError('a `mirror` needs a `package`, such as "linux-image-6.8.*-generic"')
        if self.keyring and not self.mirror:
            raise ValueError("`keyring` needs a `mirror`: the keyring of Debian's archive is known")
        return self


class DnfSource(_Model):
    """A kernel package of a distribution with RPM packages, fetched by dnf."""

    repository: Url
    """The repository's URL: the folder that holds `repodata`."""
    mirrorlist: bool = False
    """Whether `repository` is the URL of a list of such folders."""
    package: str = Field(default="kernel-core", pattern=r"^[A-Za-z0-9][A-Za-z0-9._+*?~^:-]*$")
    """The package, or a pattern of name and version such as `kernel-core-5.14.0-427.*`, which
    selects the newest match. With a plain name, an id that begins with a release (`5.14`) is a
    series."""
    extra_packages: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]] = []
    """Further packages of the same build, such as `kernel-modules-extra`. Dependencies of `package`
    in the same build, and the package with the modules that machines need, are always included."""
    key: str = Field(min_length=1)
    """The keys that may sign the repository and its packages: a file, relative to kernels.yaml, or
    an `https` URL, which is fetched once and kept."""
    signed_metadata: bool = True
    """Whether the repository's metadata is signed (`repomd.xml.asc`). Use false for a vendor who
    signs only packages. Packages are always checked."""

    @model_validator(mode="after")
    def _trusted_key(self) -> "DnfSource":
        # All other checks rely on this key, and plain http lets anyone on the network replace it.
        if self.key.startswith("http://") and not _LOOPBACK.match(self.key):
            raise ValueError("key: expected a file or an https URL, not plain http")
        return self


class PackageSource(_Model):
    """A kernel in single `.deb` or `.rpm` files, by path or URL."""

    files: list[str] = Field(min_length=1)
    """The packages: paths, relative to kernels.yaml, or URLs. First the kernel's own package, then
    further packages with its modules."""
    sha256: list[Sha256 | None] = []
    """The checksums of `files`, in their order. Each URL needs one; a path may have `null`."""

    @model_validator(mode="after")
    def _checksums(self) -> "PackageSource":
        if self.sha256 and len(self.sha256) != len(self.files):
            raise ValueError(
                f"sha256: expected {len(self.files)} checksums, one for each of `files`"
            )
        for name, sha256 in zip_longest(self.files, self.sha256):
            if is_url(name) and not sha256:
                raise ValueError(f"sha256: {name} needs a checksum, as every URL does")
        return self


class BuildSource(_Model):
    """A kernel that the first run builds, with the fragments of `ci-kernels`."""

    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    """The release, such as `5.4.276`, or a series such as `6.1`, whose newest release is built. The
    result is in `ci-kernels/<version>`."""
    origin: str = Field(default="kernel.org", alias="from", min_length=1)
    """The sources: `kernel.org`, `apt` (Debian's package `linux-source-<series>`), or a folder with
    a source tree or git checkout, relative to kernels.yaml. The folder is not changed."""
    url: Url = "https://cdn.kernel.org/pub/linux/kernel"
    """The URL of a server with kernel.org's layout (`v6.x/linux-6.1.192.tar.xz`)."""
    keyring: Path | None = None
    """A file with the keys that may sign the checksums of kernel.org's tarballs (`sha256sums.asc`).
    Without it, the signature is not checked, and the results say so."""
    sha256: Sha256 | None = None
    """The tarball's checksum, instead of a signed one."""
    suite: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9./+-]*$")
    """Debian's suite, for `apt`. Default: the first suite that has the series."""
    config: list[Path] = []
    """Further configuration fragments."""
    debug: bool = False
    """Whether to add `debug.config` and keep the debug information in `vmlinux`."""


class Source(_Model):
    """Where a kernel comes from. Exactly one of these keys is required."""

    apt: AptSource | None = None
    """A kernel package of Debian or a similar distribution."""
    dnf: DnfSource | None = None
    """A kernel package of a distribution with RPM packages."""
    package: PackageSource | None = None
    """Single `.deb` or `.rpm` files."""
    oci: (
        Annotated[
            str, AfterValidator(image), WithJsonSchema({"type": "string", "pattern": GRAMMAR})
        ]
        | None
    ) = None
    """An image of a container registry, such as `ghcr.io/cilium/ci-kernels:5.4.276`, or pinned, as
    in `ghcr.io/cilium/ci-kernels@sha256:...`. Prefix `http://` for a registry without TLS."""
    directory: Path | None = None
    """An existing image: a file, or a folder with `<id>/vmlinuz`, `linux-<id>.bz`,
    `vmlinuz-<release>`, or just a `vmlinuz`, `bzImage`, `Image`, `Image.gz` or `vmlinux`."""
    build: BuildSource | None = None
    """A source tree to build."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "Source":
        if len(self._given()) != 1:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"expected exactly one of: {names}")
        return self

    def _given(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    @property
    def kind(self) -> str:
        """The key that is set."""
        return self._given()[0]

    @property
    def summary(self) -> str:
        """A short text for lists: `apt bookworm-security`."""
        if self.apt is not None:
            return f"apt {self.apt.suite}"
        if self.dnf is not None:
            return f"dnf {self.dnf.repository}"
        if self.package is not None:
            return f"package {self.package.files[0]}"
        if self.build is not None:
            return f"build {self.build.version} from {self.build.origin}"
        return f"{self.kind} {getattr(self, self.kind)}"
