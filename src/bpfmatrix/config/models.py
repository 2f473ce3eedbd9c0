"""`kernels.yaml`: the kernels, their machines, and what runs there.

`bpfmatrix.config.kernels_yaml` reads the file into a `Config`. `Config.kernel` returns one kernel
with the defaults merged in, which is all that the rest of the library sees. `kernels.schema.json`
and `docs/kernels-yaml.md` are generated from these pydantic models.
"""

import fnmatch
import re
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from bpfmatrix.config.value_types import (
    OCI_REFERENCE,
    Arch,
    Bytes,
    Place,
    Seconds,
    Sha256,
    Share,
    Url,
    is_url,
    like,
    parse_size,
)
from bpfmatrix.errors import UsageError, suggestion
from bpfmatrix.host.architecture import DEFAULT

__all__ = ["Config", "Expectation", "KernelConfig", "Verify", "VerifyObjects"]

FILE_NAME = "kernels.yaml"

_KERNEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RELEASE = re.compile(r"\d+(?:\.\d+){1,2}")
_NEED = r"\d+\.\d+ \S.*"
_LOOPBACK = re.compile(r"http://(127\.[0-9.]+|localhost|\[::1\])(:\d+)?/")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Qemu(_Model):
    """The machine that a kernel is booted in."""

    memory: Bytes = parse_size("512M")
    """Memory of the guest."""
    cpus: int = Field(default=2, ge=1, le=64)
    """Virtual CPUs of the guest."""
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    """`auto` uses KVM if a probe guest really ran under it, else emulation (`tcg`)."""
    extra_args: list[str] = []
    """Arguments appended to QEMU's command line."""


class Timeouts(_Model):
    """Time limits. A bare number is in seconds."""

    boot: Seconds = 60.0
    """From QEMU's start until the guest is ready."""
    test: Seconds = 120.0
    """For each test binary."""
    run: Seconds = 1800.0
    """For the whole machine, from start to end."""


class AptSource(_Model):
    """A kernel package of Debian, fetched by apt from the mirror of the host's apt.

    With `mirror`, a kernel package of another distribution.
    """

    suite: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9./+-]*$")
    """The suite, such as `bookworm-security` or `trixie-backports`."""
    package: str | None = None
    """The package, or a pattern with `*`, which selects the newest match. A meta package is
    followed. Default: `linux-image-<id>.*-cloud-<architecture>`; a `mirror` has none."""
    mirror: Url | None = None
    """The archive's URL, if it is not the mirror of the host's apt."""
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
            raise ValueError("a mirror needs a `keyring`: the file with the keys that sign it")
        if self.mirror and not self.package:
            raise ValueError('a mirror needs a `package`, such as "linux-image-6.8.*-generic"')
        if self.keyring and not self.mirror:
            raise ValueError("`keyring` belongs to a `mirror`; the host's apt has its own")
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
        # All other checks trust this key, and anybody on the way can alter plain http.
        if self.key.startswith("http://") and not _LOOPBACK.match(self.key):
            raise ValueError("key: expected a file or an https address, not plain http")
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
            raise ValueError(f"sha256: expected {len(self.files)} checksums, one for each of files")
        for name, sha256 in zip_longest(self.files, self.sha256):
            if is_url(name) and not sha256:
                raise ValueError(f"sha256: {name} needs a checksum, as every address does")
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
    oci: str | None = Field(default=None, pattern=OCI_REFERENCE)
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
        if self.build is not None:
            return f"build {self.build.version} from {self.build.origin}"
        return f"{self.kind} {getattr(self, self.kind)}"


class _Machine(_Model):
    """The keys that `defaults` and each kernel share."""

    arch: Arch = DEFAULT.name
    """The architecture of the kernel and the machine."""
    qemu: Qemu = Qemu()
    """The machine."""
    timeout: Timeouts = Timeouts()
    """The time limits."""
    modules: list[str] = []
    """Kernel modules to load before the tests, besides those that the machine needs."""
    kernel_args: list[str] = []
    """Parameters appended to the kernel's command line."""


class Defaults(_Machine):
    """Settings for every kernel that does not override them."""


class KernelEntry(_Machine):
    """One kernel. Every key but `source` overrides the same key of `defaults`."""

    source: Source
    """Where the kernel comes from."""
    _exact: bool = PrivateAttr(default=False)


class GoTests(_Model):
    """A Go module whose tests are built with `go test -c`, one static binary for each package."""

    module: Path = Path("support")
    """The folder of `go.mod`."""
    packages: list[str] = ["./..."]
    """The packages, as `go test` takes them."""
    tags: list[str] = ["integration"]
    """Build tags."""


class Payload(_Model):
    """What is built on the host and runs in the guest."""

    ebpf: Path | None = Path("ebpf")
    """A folder whose Makefile builds eBPF object files (`*.o`). In the guest, the environment
    variable BPFMATRIX_OBJECTS names their folder. `null` for none."""
    go: GoTests | None = GoTests()
    """The Go tests. `null` for none."""
    binaries: list[Path] = []
    """Further test binaries (static, or scripts for the guest's `/bin/sh`), each one test."""
    files: dict[Place, Path] = {}
    """Further files and trees of files for the tests, keyed by their places below `/payload`, as in
    `data: tests/data`. Symbolic links are followed."""
    listed: dict[Place, Annotated[list[str], Field(min_length=1)]] = {}
    """Trees of files that commands list, keyed by their places below `/payload`. A command runs in
    the folder of kernels.yaml, with the guest's architecture in BPFMATRIX_ARCH. It prints one line
    for each file: its place in the tree, a tab, and its path on the host."""
    env: dict[str, str] = {}
    """Environment variables for the tests."""

    @model_validator(mode="after")
    def _variables(self) -> "Payload":
        for name, value in self.env.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"env: {name!r} can't be a variable's name in the guest's shell")
            if "\0" in value:
                raise ValueError(f"env: {name}: a variable can't hold a NUL")
        return self


class VerifyObjects(_Model):
    """eBPF object files, and settings for loading them that they do not contain."""

    path: str = Field(min_length=1)
    """A path, or a pattern such as `ebpf/*.bpf.o`, relative to kernels.yaml."""
    set: dict[str, str | int | bool] = {}
    """Values for the objects' constants (`const volatile` variables)."""
    map_sizes: dict[str, Annotated[int, Field(ge=1, le=(1 << 32) - 1)]] = {}
    """The number of entries of maps that the project sizes at run time."""
    variants: list[Annotated[list[str], Field(min_length=2)]] = []
    """Alternatives: of the programs in each list, the first that loads counts."""
    optional: list[str] = []
    """Programs that may fail to load, which then counts as skipped."""
    requires: (
        Annotated[str, *like(_NEED, 'a release and a feature, such as "5.17 bpf_loop"')] | None
    ) = None
    """The oldest release for the objects, and why: `5.17 bpf_loop`. On older releases they are
    skipped. Default: what the object's section `.bpfmatrix.requires` says."""


class Verify(_Model):
    """What `invoke verify` loads, and how."""

    objects: list[VerifyObjects] = []
    """The object files. Default: those of `payload.ebpf`."""
    attach: bool = False
    """Whether to attach and detach each program that can be attached."""
    limit: Seconds = 30.0
    """For loading one program."""
    max_insns: Share = "100%"
    """The instructions that the verifier may process for one program: a share of the kernel's
    limit, or a number. A program above it fails."""


class Expectation(_Model):
    """A known failure or skip that does not make a run fail."""

    kernels: list[str] = Field(default=["*"], min_length=1)
    """Kernel ids and patterns, such as `5.*`."""
    program: str | None = Field(default=None, min_length=1)
    """eBPF programs of `invoke verify`: a name, or a pattern such as `on_*`."""
    test: str | None = Field(default=None, min_length=1)
    """Tests: a name, or a pattern such as `TestRing*`. Subtests are included."""
    object: str | None = Field(default=None, min_length=1)
    """With `program`: only programs of this object, a path or a pattern. Default: any."""
    outcome: Literal["failed", "skipped"] = "failed"
    """The expected outcome. A timeout counts as a failure; a kernel panic is never expected."""
    reason: str = Field(min_length=1)
    """Why, in one line. Results show it."""
    until: str | None = None
    """When it ends: a date (its last day, `2027-01-31`), or a kernel release (the first that should
    be fine, `6.1.180`). After that, the failure counts again."""

    @model_validator(mode="before")
    @classmethod
    def _date(cls, data: Any) -> Any:
        # YAML has dates of its own, and reads a release such as 6.10 as a number.
        if isinstance(data, dict) and "until" in data:
            until = data["until"]
            if isinstance(until, float | int):
                raise ValueError(f"until: YAML reads {until} as a number; write it in quotes")
            return {**data, "until": str(until) if until is not None else None}
        return data

    @model_validator(mode="after")
    def _complete(self) -> "Expectation":
        if (self.program is None) == (self.test is None):
            raise ValueError("expected exactly one of: program, test")
        if self.object and not self.program:
            raise ValueError("object: belongs to a program")
        if self.until is not None and self.until_date is None and not self.until_release:
            raise ValueError(
                f"until: {self.until!r} is neither a date (2027-01-31) nor a release (6.1.180)"
            )
        return self

    @property
    def until_date(self) -> date | None:
        """The last day, if `until` is a date."""
        try:
            return date.fromisoformat(self.until) if self.until else None
        except ValueError:
            return None

    @property
    def until_release(self) -> tuple[int, ...]:
        """The first release that should be fine, as numbers; empty if `until` is not a release."""
        if self.until and _RELEASE.fullmatch(self.until):
            return tuple(map(int, self.until.split(".")))
        return ()


class KernelConfig(KernelEntry):
    """One kernel of kernels.yaml, defaults merged in, as the rest of the library sees it."""

    id: str
    """The id that people type: `nox -s kernel-<id>`."""
    root: Path = Path()
    """The folder of kernels.yaml."""
    exact: bool = False
    """Whether the user named the image file itself, so that KERN_DIR is ignored."""
    expect: list[Expectation] = []
    """The entries of `expect` that apply to this kernel."""


class Config(_Model):
    """The kernels, their machines, and what runs there."""

    defaults: Defaults = Defaults()
    """Settings for every kernel that does not override them."""
    payload: Payload = Payload()
    """What is built and run."""
    verify: Verify = Verify()
    """The object files for `invoke verify`."""
    expect: list[Expectation] = []
    """Known failures and skips."""
    kernels: dict[str, KernelEntry] = Field(min_length=1)
    """The kernels, by their ids. An id such as `6.1` is a series: at the first fetch it resolves to
    the newest release that the source offers, and stays there until `invoke kernels.update`."""
    matrix: list[str] = []
    """The ids that `nox -s matrix` runs. Default: all."""
    pre_push: list[str] = []
    """The ids that `nox -s pre-push` runs. Default: those of `matrix`."""
    _root: Path = PrivateAttr(default_factory=Path.cwd)

    def at(self, root: Path) -> Self:
        """Set the folder of kernels.yaml, if it is not the working directory; returns self."""
        self._root = root
        return self

    @model_validator(mode="after")
    def _ids(self) -> "Config":
        for id in self.kernels:
            if not _KERNEL_ID.fullmatch(id):
                raise ValueError(f"kernels.{id}: an id takes letters, digits and . _ + - only")
        for key, ids in (("matrix", self.matrix), ("pre_push", self.pre_push)):
            for id in ids:
                if id not in self.kernels:
                    raise ValueError(f"{key}: no kernel {id!r}{suggestion(id, self.kernels)}")
        return self

    def kernel(self, id: str) -> KernelConfig:
        """Return the kernel with this id, defaults merged in; UsageError for an unknown id."""
        if id not in self.kernels:
            raise UsageError(
                f"no kernel {id!r} in {FILE_NAME}{suggestion(id, self.kernels)}",
                f"It has: {', '.join(self.kernels)}.",
            )
        entry, merged = self.kernels[id], self.defaults.model_dump(exclude_unset=True)
        for key, value in entry.model_dump(exclude_unset=True).items():
            inherited = merged.get(key)
            if isinstance(value, dict) and isinstance(inherited, dict):
                value = {**inherited, **value}  # noqa: PLW2901
            merged[key] = value
        return KernelConfig.model_construct(
            **{
                **{name: getattr(self.defaults, name) for name in Defaults.model_fields},
                **merged,
                "qemu": Qemu.model_construct(**merged.get("qemu", {})),
                "timeout": Timeouts.model_construct(**merged.get("timeout", {})),
                "source": entry.source,
                "id": id,
                "root": self._root,
                "exact": entry._exact,
                "expect": [
                    expectation
                    for expectation in self.expect
                    if any(fnmatch.fnmatchcase(id, pattern) for pattern in expectation.kernels)
                ],
            }
        )

    @property
    def matrix_ids(self) -> list[str]:
        """The ids that `nox -s matrix` runs."""
        return self.matrix or list(self.kernels)

    @property
    def pre_push_ids(self) -> list[str]:
        """The ids that `nox -s pre-push` runs."""
        return self.pre_push or self.matrix_ids
