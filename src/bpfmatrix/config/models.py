"""`kernels.yaml`: the kernels, the machines that they run in, and what runs there.

`bpfmatrix.config.kernels_yaml` reads the file and gives a `Config`; `Config.kernel` gives one
kernel with the defaults merged in, which is all that the rest of the library sees. The pydantic
models here are also the source of `kernels.schema.json` and of the page `docs/kernels-yaml.md`.
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
    """`auto` uses KVM where a probe guest really ran under it, and emulation (`tcg`) elsewhere."""
    extra_args: list[str] = []
    """Arguments that are appended to QEMU's command line."""


class Timeouts(_Model):
    """Limits of every wait. A number is in seconds."""

    boot: Seconds = 60.0
    """From QEMU's start until the guest is ready."""
    test: Seconds = 120.0
    """For each test executable."""
    run: Seconds = 1800.0
    """For the whole machine, from start to end."""


class AptSource(_Model):
    """A kernel package of Debian, fetched by apt from the mirror that the host's apt uses.

    Or one of another distribution, from a `mirror` of its own.
    """

    suite: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9./+-]*$")
    """The suite, such as `bookworm-security` or `trixie-backports`."""
    package: str | None = None
    """The package, or a pattern with `*` of which the newest is taken; a meta package is followed.
    Default: `linux-image-<id>.*-cloud-<architecture>`; a `mirror` has none."""
    mirror: Url | None = None
    """The archive's address, where it is not the one that the host's apt uses."""
    keyring: Path | None = None
    """The keys that may sign the archive of `mirror`: a file, `.gpg` or armored `.asc`, relative to
    kernels.yaml. Ubuntu's is `ubuntu-archive-keyring.gpg` of its package `ubuntu-keyring`."""
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
    """A kernel package of a distribution of RPM packages, fetched by dnf."""

    repository: Url
    """The repository's address: the folder that holds `repodata`."""
    mirrorlist: bool = False
    """Whether `repository` is the address of a list of such folders instead."""
    package: str = Field(default="kernel-core", pattern=r"^[A-Za-z0-9][A-Za-z0-9._+*?~^:-]*$")
    """The package, or a pattern of name and version such as `kernel-core-5.14.0-427.*`, of which
    the newest is taken. With a plain name, an id that begins with a release (`5.14`) is a
    series."""
    extra_packages: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]] = []
    """Further packages of the same build, such as `kernel-modules-extra`. Those that `package`
    needs of its build, and the one with the modules that machines need, are taken in any case."""
    key: str = Field(min_length=1)
    """The keys that may sign the repository and its packages: a file, relative to kernels.yaml, or
    an `https` address, of which the first answer is kept."""
    signed_metadata: bool = True
    """Whether the repository's metadata is signed (`repomd.xml.asc`). Set it to false for a vendor
    who signs packages only: these are checked in any case."""

    @model_validator(mode="after")
    def _trusted_key(self) -> "DnfSource":
        # What vouches for everything else must not come over a line that anybody can write on.
        if self.key.startswith("http://") and not _LOOPBACK.match(self.key):
            raise ValueError("key: expected a file or an https address, not plain http")
        return self


class PackageSource(_Model):
    """A kernel in single `.deb` or `.rpm` files, by their paths or addresses."""

    files: list[str] = Field(min_length=1)
    """The packages: paths, relative to kernels.yaml, or addresses. The kernel's own comes first,
    then what else holds its modules."""
    sha256: list[Sha256 | None] = []
    """The checksums of `files`, in their order. Each address needs one; a path may have `null`."""

    @model_validator(mode="after")
    def _checksums(self) -> "PackageSource":
        if self.sha256 and len(self.sha256) != len(self.files):
            raise ValueError(f"sha256: expected {len(self.files)} checksums, one for each of files")
        for name, sha256 in zip_longest(self.files, self.sha256):
            if is_url(name) and not sha256:
                raise ValueError(f"sha256: {name} needs a checksum, as every address does")
        return self


class BuildSource(_Model):
    """A kernel that is built here, with the fragments of `ci-kernels`, by the first run."""

    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    """The release, such as `5.4.276`, or a series such as `6.1`, of which the newest release is
    built. The result lies in `ci-kernels/<version>`."""
    origin: str = Field(default="kernel.org", alias="from", min_length=1)
    """The sources: `kernel.org`, `apt` (Debian's package `linux-source-<series>`), or a folder with
    a source tree or git checkout, relative to kernels.yaml, which is not written to."""
    url: Url = "https://cdn.kernel.org/pub/linux/kernel"
    """The address of a server with kernel.org's layout (`v6.x/linux-6.1.192.tar.xz`)."""
    keyring: Path | None = None
    """The keys that may sign the checksums of kernel.org's tarballs (`sha256sums.asc`), relative to
    kernels.yaml. With none, their signature is not checked, and the results say so."""
    sha256: Sha256 | None = None
    """The checksum of the tarball, in place of a signed one."""
    suite: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9./+-]*$")
    """Debian's suite, for `apt`. Default: the first one that has the series."""
    config: list[Path] = []
    """Further fragments of a kernel's configuration, relative to kernels.yaml."""
    debug: bool = False
    """Whether to add `debug.config`, and to keep the debug information in `vmlinux`."""


class Source(_Model):
    """Where a kernel comes from: exactly one of these keys."""

    apt: AptSource | None = None
    """A kernel package of Debian, or of a distribution like it."""
    dnf: DnfSource | None = None
    """A kernel package of a distribution of RPM packages."""
    package: PackageSource | None = None
    """Single `.deb` or `.rpm` files."""
    oci: str | None = Field(default=None, pattern=OCI_REFERENCE)
    """An image of a container registry, such as `ghcr.io/cilium/ci-kernels:5.4.276`, or pinned, as
    in `ghcr.io/cilium/ci-kernels@sha256:...`. `http://` in front is for a registry without TLS."""
    directory: Path | None = None
    """An image that lies there: a file, or a folder with `<id>/vmlinuz`, `linux-<id>.bz`,
    `vmlinuz-<release>`, or just a `vmlinuz`, `bzImage`, `Image`, `Image.gz` or `vmlinux`."""
    build: BuildSource | None = None
    """A source tree, built here."""

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
        """The one key that is set."""
        return self._given()[0]

    @property
    def summary(self) -> str:
        """One short text for lists: `apt bookworm-security`."""
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
    """What `defaults` and each kernel have in common."""

    arch: Arch = DEFAULT.name
    """The architecture of the kernel and of the machine."""
    qemu: Qemu = Qemu()
    """The machine."""
    timeout: Timeouts = Timeouts()
    """The limits."""
    modules: list[str] = []
    """Kernel modules to load before the tests, beyond those that the machine needs."""
    kernel_args: list[str] = []
    """Parameters that are appended to the kernel's command line."""


class Defaults(_Machine):
    """Settings of every kernel that does not say otherwise."""


class KernelEntry(_Machine):
    """One kernel. Every key but `source` overrides the same key of `defaults`."""

    source: Source
    """Where the kernel comes from."""
    _exact: bool = PrivateAttr(default=False)


class GoTests(_Model):
    """A Go module whose tests are built with `go test -c`, one static binary for each package."""

    module: Path = Path("support")
    """The folder of `go.mod`, relative to kernels.yaml."""
    packages: list[str] = ["./..."]
    """The packages, as `go test` takes them."""
    tags: list[str] = ["integration"]
    """Build tags."""


class Payload(_Model):
    """What is built on the host and runs in the guest. Paths are relative to kernels.yaml."""

    ebpf: Path | None = Path("ebpf")
    """A folder whose Makefile builds eBPF objects (`*.o`); the guest finds them in the folder that
    the environment variable BPFMATRIX_OBJECTS names. `null` for none."""
    go: GoTests | None = GoTests()
    """The Go tests. `null` for none."""
    binaries: list[Path] = []
    """Further executables (static, or scripts of the guest's `/bin/sh`), each run as one test."""
    files: dict[Place, Path] = {}
    """Further files and trees of files that the tests find in the guest, by their places below
    `/payload`, as in `data: tests/data`. A link is what it leads to."""
    listed: dict[Place, Annotated[list[str], Field(min_length=1)]] = {}
    """Trees of files that commands list, by their places below `/payload`. A command is run in the
    folder of kernels.yaml, with the guest's architecture in BPFMATRIX_ARCH. It prints one line for
    each file: its place in the tree, a tab, and its path on the host."""
    env: dict[str, str] = {}
    """Environment variables of the tests."""

    @model_validator(mode="after")
    def _variables(self) -> "Payload":
        for name, value in self.env.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"env: {name!r} can't be a variable's name in the guest's shell")
            if "\0" in value:
                raise ValueError(f"env: {name}: a variable can't hold a NUL")
        return self


class VerifyObjects(_Model):
    """eBPF objects, and what it takes to load them beyond what they say themselves."""

    path: str = Field(min_length=1)
    """A path, or a pattern such as `ebpf/*.bpf.o`, relative to kernels.yaml."""
    set: dict[str, str | int | bool] = {}
    """Values of the objects' constants (`const volatile` variables)."""
    map_sizes: dict[str, Annotated[int, Field(ge=1, le=(1 << 32) - 1)]] = {}
    """The number of entries of maps that are sized at run time."""
    variants: list[Annotated[list[str], Field(min_length=2)]] = []
    """Programs of which one is enough: each list names some, and the first that loads counts."""
    optional: list[str] = []
    """Programs that are loaded only where the kernel has what they need."""
    requires: (
        Annotated[str, *like(_NEED, 'a release and a feature, such as "5.17 bpf_loop"')] | None
    ) = None
    """The oldest release that the objects can run on, and why: `5.17 bpf_loop`. They are skipped on
    older ones. Default: what the object's section `.bpfmatrix.requires` says."""


class Verify(_Model):
    """What `invoke verify` loads, and how."""

    objects: list[VerifyObjects] = []
    """The objects. Default: those of `payload.ebpf`."""
    attach: bool = False
    """Whether each program that can be attached is also attached, and detached."""
    limit: Seconds = 30.0
    """For loading one program."""
    max_insns: Share = "100%"
    """How many instructions the verifier may process for one program: a share of the kernel's own
    limit, or a number. A program that takes more fails."""


class Expectation(_Model):
    """A failure, or a skip, that is known and does not make a run fail."""

    kernels: list[str] = Field(default=["*"], min_length=1)
    """Ids and patterns of kernels, such as `5.*`."""
    program: str | None = Field(default=None, min_length=1)
    """The eBPF programs of `invoke verify`: a name, or a pattern such as `on_*`."""
    test: str | None = Field(default=None, min_length=1)
    """The tests: a name, or a pattern such as `TestRing*`. A test's subtests belong to it."""
    object: str | None = Field(default=None, min_length=1)
    """With `program`: only those of this object, a path or a pattern. Default: any."""
    outcome: Literal["failed", "skipped"] = "failed"
    """What is expected. A time-out counts as a failure; a panic of the kernel never does."""
    reason: str = Field(min_length=1)
    """Why, in one line. It is shown with the result."""
    until: str | None = None
    """When it ends: a date (`2027-01-31`, its last day), or a release of the kernel (`6.1.180`, the
    first one that should be fine). After that, such a failure is one again."""

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
        """The last day of it, if it has one."""
        try:
            return date.fromisoformat(self.until) if self.until else None
        except ValueError:
            return None

    @property
    def until_release(self) -> tuple[int, ...]:
        """The first release that it is not for, as numbers; empty if it names none."""
        if self.until and _RELEASE.fullmatch(self.until):
            return tuple(map(int, self.until.split(".")))
        return ()


class KernelConfig(KernelEntry):
    """One kernel of kernels.yaml, defaults merged in: what the rest of the library works with."""

    id: str
    """What people type: `nox -s kernel-<id>`."""
    root: Path = Path()
    """The folder of kernels.yaml."""
    exact: bool = False
    """Whether it is asked for by its file, so that KERN_DIR does not matter."""
    expect: list[Expectation] = []
    """What is expected of it."""


class Config(_Model):
    """The kernels, the machines that they run in, and what runs there."""

    defaults: Defaults = Defaults()
    """Settings of every kernel that does not say otherwise."""
    payload: Payload = Payload()
    """What is built and run."""
    verify: Verify = Verify()
    """What `invoke verify` loads."""
    expect: list[Expectation] = []
    """Failures and skips that are known."""
    kernels: dict[str, KernelEntry] = Field(min_length=1)
    """The kernels, by the id that people type. An id such as `6.1` is a series: the newest release
    of it that the source offers when it is first fetched, until `invoke kernels.update`."""
    matrix: list[str] = []
    """The ids that `nox -s matrix` runs. Default: all."""
    pre_push: list[str] = []
    """The ids that `nox -s pre-push` runs. Default: those of `matrix`."""
    _root: Path = PrivateAttr(default_factory=Path.cwd)

    def at(self, root: Path) -> Self:
        """Return this for a project in another folder than the working one."""
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
        """Return the kernel with this id, defaults merged in; UsageError where there is none."""
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
