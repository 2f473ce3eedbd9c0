"""`kernels.yaml`: the kernels, the machines that they run in, and what runs there.

`load` reads and validates the file and gives a `Config`; `Config.kernel` gives one kernel with the
defaults merged in, which is all that the rest of the library sees. The pydantic models here are
also the source of `kernels.schema.json` and of the page `docs/kernels-yaml.md`.
"""

import difflib
import fnmatch
import re
from collections.abc import Hashable, Iterable
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from bpfmatrix.errors import ConfigError, UsageError

__all__ = ["Config", "Expectation", "KernelConfig", "Verify", "VerifyObjects", "load", "suggestion"]

FILE_NAME = "kernels.yaml"
Arch = Literal["x86_64", "aarch64"]

# [http://][host[:port]/]path[:tag][@digest]: the grammar of github.com/distribution/reference.
_OCI_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
OCI_REFERENCE = (
    r"^(?:http://)?(?:(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]+)?/)?"
    rf"{_OCI_WORD}(?:/{_OCI_WORD})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)
_KERNEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}
_SIZE = re.compile(r"(\d+)\s*([KMG])(?:i?B)?")
_RELEASE = re.compile(r"\d+(?:\.\d+){1,2}")
_NEED = r"\d+\.\d+ \S.*"
_SHARE = r"(?:100|[1-9]\d?)%|[1-9]\d*"
_LOOPBACK = re.compile(r"http://(127\.[0-9.]+|localhost|\[::1\])(:\d+)?/")
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_duration(value: object) -> float:
    """Turn `90`, `"90s"`, `"1.5m"`, `"500ms"` or `"2h"` into seconds; ValueError for the rest."""
    match = _DURATION.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError('expected a duration such as "90s", "2m" or "500ms"')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds <= 0:
        raise ValueError("expected a duration above zero")
    return seconds


def parse_size(value: object) -> int:
    """Turn `"512M"` or `"2G"` into bytes (powers of 1024); ValueError for anything else."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError('expected a size such as "512M" or "2G"')
    return int(match[1]) * _BYTES[match[2]]


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "pattern": f"^{_DURATION.pattern}$"}),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"}),
]


def parse_share(value: object) -> str:
    """Check a share such as `"80%"`, or a number, and return it as text; ValueError else."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(_SHARE, text):
        raise ValueError('expected a share such as "80%", or a number')
    return text


Share = Annotated[
    str,
    BeforeValidator(parse_share),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^(?:{_SHARE})$"}),
]


def is_url(text: str) -> bool:
    """Whether this is an address, and not a path."""
    return re.match(r"(https?|file)://", text) is not None


def is_place(text: str) -> bool:
    """Whether this can be a file's place in a tree."""
    return re.fullmatch(PLACE, text) is not None


def _like(pattern: str, expected: str) -> tuple[AfterValidator, WithJsonSchema]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


# What apt and dnf read out of their settings has no escape for quotes and white space.
Url = Annotated[
    str, *_like(r"(https?|file)://[^\s\"\\]+", "an address such as https://example.org/repository")
]
Sha256 = Annotated[str, *_like(r"[0-9a-f]{64}", "a SHA-256: 64 digits of 0-9 and a-f, in quotes")]


# Where a file stands in a tree: no `..`, nothing empty, nothing that a line of text can't hold.
PLACE = r"(?!\.{1,2}(?:/|$))[^/\0\t\n]+(?:/(?!\.{1,2}(?:/|$))[^/\0\t\n]+)*"
Place = Annotated[str, *_like(PLACE, "a relative path without . and .. in it")]


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

    arch: Arch = "x86_64"
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
        Annotated[str, *_like(_NEED, 'a release and a feature, such as "5.17 bpf_loop"')] | None
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


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "...")?` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a key can't be a list or a mapping", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key!r} stands there twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Config:
    """Read kernels.yaml; ConfigError names the file, the key's path and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path.name}: no such file in {path.parent}",
            "Run this in the folder of kernels.yaml, or write one (docs/kernels-yaml.md).",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: can't be read: {error}") from error
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        place = f" line {mark.line + 1}:" if mark else ""
        raise ConfigError(f"{path.name}:{place} {problem}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # PyYAML lets these pass
        raise ConfigError(f"{path.name}: can't be read as YAML: {error}") from error
    _require_text_ids(path, data)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(path, error))) from error
    config._root = path.parent.absolute()
    return config


def _require_text_ids(path: Path, data: object) -> None:
    # YAML reads a bare 5.10 as the number 5.1, which would silently name another kernel.
    kernels = data.get("kernels") if isinstance(data, dict) else None
    for id in kernels if isinstance(kernels, dict) else ():
        if not isinstance(id, str):
            raise ConfigError(
                f"{path.name}: kernels.{id}: YAML reads this id as a number",
                'Write it in quotes, as in "5.10".',
            )


def _sentences(path: Path, error: ValidationError) -> Iterable[str]:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = f"unknown key{suggestion(str(problem['loc'][-1]), _keys_at(problem['loc']))}"
        yield f"{path.name}: {where}: {what}" if where else f"{path.name}: {what}"


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the mapping takes in which an unknown key was found."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:  # a kernel's id: the model of its value stays
            continue
        found = _model_in(field.annotation)
        if found is None:
            return []
        model = found
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model in an annotation such as `X`, `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model), None)
