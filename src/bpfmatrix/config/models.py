"""The models of kernels.yaml: the kernels, their machines, and what runs there.

`bpfmatrix.config.kernels_yaml` reads the file into a `Config`. `Config.kernel` returns the settings
of one kernel with the defaults merged in. `kernels.schema.json` and `docs/kernels-yaml.md` are
generated from these models, and the docstrings below the fields are their descriptions.
"""

import fnmatch
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from bpfmatrix.config.archives import Archives
from bpfmatrix.config.kernel_ids import kernel_of, names_profile, profile_of
from bpfmatrix.config.kernels_lock import Pin
from bpfmatrix.config.settings import Binary, Privileges, Profile, Settings, merged_privileges
from bpfmatrix.config.sources import Source
from bpfmatrix.config.value_types import (
    Arch,
    Bytes,
    LoaderName,
    MaxInsns,
    RelativePath,
    Seconds,
    matching,
    parse_size,
)
from bpfmatrix.errors import UsageError, suggestion
from bpfmatrix.host.architecture import DEFAULT
from bpfmatrix.oci.reference import REPOSITORY, repository

__all__ = [
    "FILE_NAME",
    "KERNEL_ID",
    "PRESET_NAME",
    "Config",
    "Defaults",
    "Expectation",
    "GoTests",
    "Included",
    "KernelConfig",
    "KernelEntry",
    "Matrix",
    "PayloadConfig",
    "Preset",
    "Privileges",
    "Profile",
    "Settings",
    "Verify",
    "VerifyObjects",
    "parse_matrix",
]

FILE_NAME = "kernels.yaml"

KERNEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# Flags of `go test` by which its result would be another one, or elsewhere.
_OUR_GO_FLAGS = ("C", "args", "c", "exec", "json", "o")
_RELEASE = re.compile(r"\d+(?:\.\d+){1,2}")
# A preset's or a profile's name becomes a part of the names of files.
PRESET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")
_REQUIREMENT = r"\d+\.\d+ \S.*"


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
    """Time limits, on a machine with KVM. Under emulation, which is slower, each is 10 times as
    long. A bare number is in seconds.
    """

    boot: Seconds = 20.0
    """From QEMU's start until the guest is ready."""
    test: Seconds = 60.0
    """For each test binary. `--timeout` is taken as it is, also under emulation."""
    run: Seconds = 1200.0
    """For a whole run, from QEMU's start to its end."""


class _MachineSettings(_Model):
    """The keys that both `defaults` and each kernel have."""

    arch: Arch = DEFAULT.name
    """The architecture of the kernel and the machine. Other names of the same, such as `arm64` and
    `amd64`, are understood."""
    qemu: Qemu = Qemu()
    """The machine."""
    timeout: Timeouts = Timeouts()
    """The time limits."""
    modules: list[str] | Literal["all"] = []
    """Kernel modules to load before the tests, besides those that the machine needs: any that the
    kernel has. With `all`, the guest has all of them in `/lib/modules`, and the kernel, or a test
    that calls modprobe, loads one when it is needed."""
    kernel_args: list[str] = []
    """Parameters appended to the kernel's command line."""
    cgroup: Literal["v1", "v2"] = "v2"
    """What is mounted at `/sys/fs/cgroup`: the unified hierarchy (`v2`), or one hierarchy for each
    controller that the kernel has in version 1, beside the unified one in `unified` (`v1`)."""
    kernel_warnings: Literal["fail", "report", "ignore"] = "report"
    """What becomes of a kernel's warnings, and of its reports of bugs, stalls and hung tasks, that
    come while tests run: `fail` fails the run, `report` shows them, `ignore` does neither. An oops
    always fails the test."""
    dump: bool = False
    """Whether a guest that panics, or gives no sign of life any more, leaves a core file of its
    memory beside its console: `vmcore.zst`, for `bpfmatrix debug --core`, drgn and crash."""
    isolation: Literal["kernel", "test"] = "kernel"
    """`kernel`: all test binaries run in one guest, one after another, and what a binary leaves
    behind is removed before the next one begins. `test`: each has a guest of its own. `verify` uses
    one guest."""


class Defaults(_MachineSettings):
    """Settings for every kernel that does not override them."""


class KernelEntry(_MachineSettings):
    """One kernel. Every key but `source` overrides the same key of `defaults`."""

    source: Source
    """Where the kernel comes from."""
    _exact: bool = PrivateAttr(default=False)


class GoTests(_Model):
    """A Go module whose tests are built with `go test -c`, one static binary for each package.

    As with `go test`, a binary runs in the folder of its package, with GOROOT set. In results it
    has the import path of the package.
    """

    module: Path = Path("support")
    """The folder of `go.mod`."""
    packages: list[str] = ["./..."]
    """The packages, as `go test` takes them."""
    tags: list[str] = ["integration"]
    """Build tags."""
    flags: list[str] = []
    """Further build flags of Go, each one word: `[-race, -trimpath]`, or `-ldflags=-X main.v=1`,
    which replaces our `-ldflags=-s -w` (no symbol table, which halves a test binary)."""
    cgo: bool | None = None
    """Whether Go may call C. Such a test binary needs the libraries of a root (`--rootfs`). By
    default only with the flags `-race`, `-msan` and `-asan`."""
    env: dict[str, str] = {}
    """Environment variables of the build, such as `CC` or `GOEXPERIMENT`."""

    @field_validator("flags")
    @classmethod
    def _build_flags(cls, flags: list[str]) -> list[str]:
        for flag in flags:
            name = flag.lstrip("-").split("=")[0]
            if not flag.startswith("-"):
                raise ValueError(f"{flag!r} is no flag; a flag and its value are one word: -p=4")
            if name == "tags":
                raise ValueError(f"{flag!r}: build tags have a key of their own, `tags`")
            if name in _OUR_GO_FLAGS:
                raise ValueError(f"{flag!r} can't be given: bpfmatrix sets -{name} itself")
        return flags

    @field_validator("env")
    @classmethod
    def _variables(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"{name!r} can't be an environment variable with such a value")
        return env


class PayloadConfig(_Model, Settings, Privileges):
    """What is built on the host and runs in the guest, and how.

    A setting of a binary or package wins over that of `payload`, that of a profile over both, and
    an option of the command line over all of these.
    """

    ebpf: Path | None = Path("ebpf")
    """A folder whose Makefile builds eBPF object files (`*.o`), with `BPF_TARGET=bpfeb` those for
    big-endian guests in its folder `bpfeb`. In the guest, the environment variable
    BPFMATRIX_OBJECTS names their folder. `null` for none."""
    go: GoTests | None = GoTests()
    """The Go tests. `null` for none."""
    binaries: list[Binary] = []
    """Further test binaries (static, or scripts for the guest's `/bin/sh`): for each its path, or a
    mapping with the path and settings, as in `{path: build/x, format: tap, user: nobody}`."""
    packages: dict[str, Settings] = {}
    """Settings of Go packages, by their import paths or patterns of those, as in
    `"internal/*": {user: nobody}`. A pattern may also stand for what follows a slash of the path.
    Of several that match, the one with more letters besides its wildcards wins."""
    rootfs: str | None = None
    """The root file system of the tests, as `--rootfs` takes it: an image of a registry, such as
    `oci:debian:12`, a folder with a root file system or with an image (an OCI layout), or `host`. A
    path is relative to kernels.yaml. Default: that of the guest, which has busybox."""
    share: list[str] = []
    """Folders of the host that the guest sees too, as `--share` takes them; those of the command
    line are added. A path is relative to kernels.yaml."""
    network: Literal["user", "none"] = "none"
    """`user`: the guest has QEMU's user network."""
    repository: bool | list[str] = True
    """Which files of the repository the tests see in the guest, at the same paths as on the host:
    those that git tracks or does not ignore (`true`), those of them that match git's patterns, as
    in `[src, ":!*.pcap"]`, or none (`false`). What tests write there stays in memory. Only tests
    that run in a folder of the repository, such as those of Go packages, need them."""
    files: dict[RelativePath, Path] = {}
    """Further files and folders for the tests, keyed by their paths below `/payload`, as in
    `data: tests/data`. Symbolic links are followed."""
    listed: dict[RelativePath, Annotated[list[str], Field(min_length=1)]] = {}
    """Commands that list the files of a folder, keyed by the folder's path below `/payload`. A
    command runs in the folder of kernels.yaml, with the guest's architecture in BPFMATRIX_ARCH. It
    prints one line for each file: its path in the folder, a tab, and its path on the host."""


Loaders = LoaderName | Annotated[list[LoaderName], Field(min_length=1)]
MapSizes = dict[str, Annotated[int, Field(ge=1, le=(1 << 32) - 1)]]


class Preset(_Model):
    """One of several configurations of an object: values that are set beside those of its entry."""

    set: dict[str, str | int | bool] = {}
    """Values for the objects' constants (`const volatile` variables)."""
    map_sizes: MapSizes = {}
    """The number of entries of maps that the project sizes at run time."""


class VerifyObjects(_Model):
    """eBPF object files, and settings for loading them that they do not contain."""

    path: str = Field(min_length=1)
    """A file, a folder, or a pattern such as `ebpf/*.bpf.o`, relative to kernels.yaml; or the
    objects in an image of a registry, such as `oci:ghcr.io/you/tool:v1`."""
    set: dict[str, str | int | bool] = {}
    """Values for the objects' constants (`const volatile` variables)."""
    map_sizes: MapSizes = {}
    """The number of entries of maps that the project sizes at run time."""
    presets: dict[str, Preset] = {}
    """Configurations, by their names. The objects are loaded once for each, with its values over
    those above."""
    loader: Loaders | None = None
    """The library that loads the objects, or several. Default: that of `verify`."""
    variants: list[Annotated[list[str], Field(min_length=2)]] = []
    """Alternatives: of the programs in each list, the first that loads counts."""
    optional: list[str] = []
    """Programs that may fail to load. One that fails counts as skipped."""
    requires: (
        Annotated[str, *matching(_REQUIREMENT, 'a release and a feature, such as "5.17 bpf_loop"')]
        | None
    ) = None
    """The oldest release for the objects, and why: `5.17 bpf_loop`. On older releases they are
    skipped. Default: what the object's section `.bpfmatrix.requires` says."""

    @model_validator(mode="after")
    def _preset_names(self) -> "VerifyObjects":
        _check_names("presets", self.presets)
        return self


def _check_names(key: str, names: Iterable[str]) -> None:
    for name in names:
        if not PRESET_NAME.fullmatch(name):
            raise ValueError(
                f"{key}: {name!r} is no name: up to 40 letters, digits and . _ + -, with a "
                "letter or a digit first"
            )


class Verify(_Model):
    """What `bpfmatrix verify` loads, and how."""

    objects: list[VerifyObjects] = []
    """The object files. Default: those of `payload.ebpf`."""
    loader: Loaders | None = None
    """The library that loads objects: the one that your project uses. With several, each object is
    loaded once with each. Default: `libbpf`."""
    attach: bool = False
    """Whether to attach and detach each program that can be attached."""
    limit: Seconds = 30.0
    """For loading one program, on a machine with KVM. Under emulation it is 10 times as long."""
    max_insns: MaxInsns = "100%"
    """The instructions that the verifier may process for one program: a share of the kernel's
    limit, or a number. A program above it fails."""


class Expectation(_Model):
    """A known failure or skip that does not make a run fail."""

    kernels: list[str] = Field(default=["*"], min_length=1)
    """Kernel ids and patterns, such as `5.*`. They also stand for the kernel with each profile,
    unless they name one, as in `6.1@user` or `*@user`."""
    program: str | None = Field(default=None, min_length=1)
    """eBPF programs of `bpfmatrix verify`: a name, or a pattern such as `on_*`."""
    test: str | None = Field(default=None, min_length=1)
    """Tests: a name, or a pattern such as `TestRing*`. Subtests are included. Tests of a package
    are `internal/link:TestRing*`: its import path, or what follows a slash of it, or a pattern."""
    warning: str | None = Field(default=None, min_length=1)
    """Warnings of the kernel: a pattern for the first line, such as `*suspicious RCU usage*`."""
    object: str | None = Field(default=None, min_length=1)
    """With `program`: only programs of this object, a path or a pattern. Default: any."""
    loader: LoaderName | None = None
    """With `program`: only what this loader said. Default: any."""
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
        # YAML reads 2027-01-31 as a date, and a release such as 6.10 as a number.
        if isinstance(data, dict) and "until" in data:
            until = data["until"]
            if isinstance(until, float | int):
                raise ValueError(f"until: YAML reads {until} as a number; write it in quotes")
            return {**data, "until": str(until) if until is not None else None}
        return data

    @model_validator(mode="after")
    def _complete(self) -> "Expectation":
        if [self.program, self.test, self.warning].count(None) != 2:
            raise ValueError("expected exactly one of: program, test, warning")
        if self.object and not self.program:
            raise ValueError("object: needs a `program`")
        if self.loader and not self.program:
            raise ValueError("loader: needs a `program`")
        if self.until is not None and self.until_date is None and not self.until_release:
            raise ValueError(
                f"until: {self.until!r} is neither a date (2027-01-31) nor a release (6.1.180)"
            )
        return self

    def is_about(self, id: str) -> bool:
        """Whether it applies to the kernel of this id."""
        names = {id, kernel_of(id)}
        return any(fnmatch.fnmatchcase(name, each) for name in names for each in self.kernels)

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


Included = Literal["tests", "verify"]
"""A part of what runs on a kernel: the tests, or `verify` of the eBPF objects."""


class Matrix(_Model):
    """What the sessions `matrix`, `pre-push` and `kernel-<id>` run, as do the tasks of invoke.

    `matrix: ["5.10", "6.1"]` is short for `matrix: {kernels: ["5.10", "6.1"]}`.
    """

    kernels: list[str] = Field(default=[], min_length=1)
    """The ids of the kernels that `matrix` runs. Default: all kernels, without profiles."""
    includes: list[Included] = Field(default=[], min_length=1)
    """What runs on each kernel: `tests` are those of `payload`, and `verify` loads the objects, as
    `bpfmatrix verify` does. Default: `tests` if there are some (`payload.go`, `payload.binaries`),
    and `verify` if there are objects (`verify.objects`, `payload.ebpf`)."""


def parse_matrix(value: Any) -> Any:
    """Return the mapping that a list of ids is short for; ValueError for what is neither."""
    if isinstance(value, list):
        return {"kernels": value}
    if not isinstance(value, dict | Matrix):
        raise ValueError('expected a list of ids, such as ["5.10", "6.1"], or a mapping')
    return value


class KernelConfig(KernelEntry):
    """One kernel of kernels.yaml, with the defaults merged in."""

    id: str
    """The id that people type: `nox -s kernel-<id>`."""
    root: Path = Path()
    """The folder of kernels.yaml."""
    exact: bool = False
    """Whether the user named the image file itself, so that KERN_DIR is ignored."""
    registry: str | None = None
    """The repository that has kernels by their digests."""
    follows_lock: bool = True
    """Whether kernels.lock pins it, if it has an entry for it."""
    pin: InstanceOf[Pin] | None = None
    """What kernels.lock pins it to. `bpfmatrix.kernels` sets this when a kernel is looked for."""
    expect: list[Expectation] = []
    """The entries of `expect` that apply to this kernel."""
    profile: Profile = Profile()
    """The profile that the id names; empty if it names none."""
    privileges: Privileges = Privileges()
    """What the kernel allows to the tests: as the payload says, and its profile."""

    @property
    def plain(self) -> "KernelConfig":
        """The kernel without its profile, as which it is fetched and kept."""
        return self.model_copy(update={"id": kernel_of(self.id)})

    @property
    def loaded_modules(self) -> tuple[str, ...]:
        """The modules that are loaded before the tests."""
        return () if self.modules == "all" else tuple(self.modules)


class Config(_Model):
    """The kernels, their machines, and what runs there."""

    defaults: Defaults = Defaults()
    """Settings for every kernel that does not override them."""
    payload: PayloadConfig = PayloadConfig()
    """What is built and run."""
    verify: Verify = Verify()
    """The object files for `bpfmatrix verify`."""
    expect: list[Expectation] = []
    """Known failures and skips."""
    kernels: dict[str, KernelEntry] = Field(min_length=1)
    """The kernels, by their ids. An id such as `6.1` is a series: at the first fetch it resolves to
    the newest release that the source offers, and stays there until `bpfmatrix kernels.update`,
    which also writes it to [`kernels.lock`](pinned-kernels.md)."""
    registry: (
        Annotated[
            str,
            AfterValidator(repository),
            WithJsonSchema({"type": "string", "pattern": REPOSITORY}),
        ]
        | None
    ) = None
    """A repository of a container registry, such as `registry.example/kernels`, to which
    `bpfmatrix kernels.push` published kernels. It is asked first for each kernel that
    `kernels.lock` pins and the cache lacks: see [pinned kernels](pinned-kernels.md). The
    environment variable BPFMATRIX_REGISTRY overrides it. Prefix `http://` for a registry
    without TLS."""
    archives: Archives | None = None
    """The mirror of Debian that `apt` sources without a `mirror` are fetched from."""
    profiles: dict[str, Profile] = {}
    """Profiles, by their names: settings with which kernels can be run. `6.1@NAME` is the id of the
    kernel `6.1` with the profile NAME, wherever an id can stand."""
    matrix: Annotated[Matrix, BeforeValidator(parse_matrix)] = Matrix()
    """What `nox -s matrix` runs: its ids, as in `["5.10", "6.1", "6.1@user"]`, or a mapping as in
    `{kernels: ["5.10", "6.1"], includes: [tests]}`. Default: all kernels, without profiles, and all
    that is declared."""
    pre_push: list[str] = Field(default=[], min_length=1)
    """The ids that `nox -s pre-push` runs. Default: those of `matrix`."""
    _root: Path = PrivateAttr(default_factory=Path.cwd)
    _follows_lock: bool = PrivateAttr(default=True)

    def at(self, root: Path) -> Self:
        """Set the folder of kernels.yaml, by default the working directory, and return self."""
        self._root = root
        return self

    def unpinned(self) -> Self:
        """Return the configuration whose kernels are the newest, whatever kernels.lock says."""
        copy = self.model_copy()
        copy._follows_lock = False
        return copy

    @model_validator(mode="after")
    def _ids(self) -> "Config":
        for id in self.kernels:
            if not KERNEL_ID.fullmatch(id):
                raise ValueError(
                    f"kernels.{id}: an id has only letters, digits and . _ + -, and begins with a "
                    "letter or a digit"
                )
        _check_names("profiles", self.profiles)
        for key, ids in (("matrix", self.matrix.kernels), ("pre_push", self.pre_push)):
            for id in ids:
                if problem := self._problem(id):
                    raise ValueError(f"{key}: {problem}")
                if ids.count(id) > 1:
                    raise ValueError(f"{key}: {id!r} is listed {ids.count(id)} times")
        return self

    def _problem(self, id: str) -> str:
        """Return why there is no kernel of this id, or `""` if there is one."""
        plain, profile = kernel_of(id), profile_of(id)
        if plain not in self.kernels:
            return f"no kernel {plain!r}{suggestion(plain, self.kernels)}"
        if names_profile(id) and profile not in self.profiles:
            return f"{id}: no profile {profile!r}{suggestion(profile, self.profiles)}"
        return ""

    def has(self, id: str) -> bool:
        """Whether there is a kernel of this id, which may name a profile."""
        return not self._problem(id)

    def require_profile(self, name: str) -> None:
        """UsageError if there is no profile of this name."""
        if name not in self.profiles:
            raise UsageError(
                f"no profile {name!r} in {FILE_NAME}{suggestion(name, self.profiles)}",
                f"It has: {', '.join(self.profiles)}."
                if self.profiles
                else "Declare it under profiles:.",
            )

    def kernel(self, id: str) -> KernelConfig:
        """Return the kernel with this id, with the defaults merged in.

        The id may name a profile, as in `6.1@user`. UsageError for an unknown kernel or profile.
        """
        plain, profile = kernel_of(id), profile_of(id)
        if plain not in self.kernels:
            raise UsageError(
                f"no kernel {plain!r} in {FILE_NAME}{suggestion(plain, self.kernels)}",
                f"It has: {', '.join(self.kernels)}.",
            )
        if names_profile(id):
            self.require_profile(profile)
        chosen = self.profiles[profile] if profile else Profile()
        entry, merged = self.kernels[plain], self.defaults.model_dump(exclude_unset=True)
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
                "registry": self.registry,
                "follows_lock": self._follows_lock,
                "expect": [one for one in self.expect if one.is_about(id)],
                "profile": chosen,
                "privileges": merged_privileges(self.payload, chosen),
            }
        )

    @property
    def matrix_ids(self) -> list[str]:
        """The ids that `nox -s matrix` runs."""
        return self.matrix.kernels or list(self.kernels)

    @property
    def pre_push_ids(self) -> list[str]:
        """The ids that `nox -s pre-push` runs."""
        return self.pre_push or self.matrix_ids
