"""How tests are started, and what they may do: the models of these settings in kernels.yaml.

`Settings` says how an executable is started. kernels.yaml has them for the payload as a whole, for
single binaries and packages, and for profiles; `merged` makes one of several. `Privileges` says
what the kernel of the guest allows, which is the same for all tests of a run.
"""

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bpfmatrix.config.value_types import (
    CapabilityName,
    Format,
    Limit,
    Lockdown,
    Memlock,
    Seconds,
    UserName,
    check_variables,
)

__all__ = [
    "Binary",
    "Limits",
    "Privileges",
    "Profile",
    "Settings",
    "matches_package",
    "matching_settings",
    "merged",
    "merged_privileges",
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Model):
    """Limits of an executable: its time, and the resources of setrlimit(2), by the names of ulimit.

    A value is a number, or `unlimited`. The sizes `core`, `data`, `fsize`, `stack` and `as` may
    have a unit, as in `8M`. A resource that is not named has the kernel's own limit.
    """

    time: Seconds | None = None
    """The time limit of the executable. Default: `timeout.test`."""
    core: Limit | None = None
    """The size of a core file."""
    cpu: Limit | None = None
    """Seconds of processor time."""
    data: Limit | None = None
    """The size of a process's data."""
    fsize: Limit | None = None
    """The size of a file that it writes."""
    nofile: Limit | None = None
    """The number of open files."""
    nproc: Limit | None = None
    """The number of processes of its user."""
    sigpending: Limit | None = None
    """The number of pending signals."""
    msgqueue: Limit | None = None
    """The bytes in POSIX message queues."""
    rtprio: Limit | None = None
    """The highest real-time priority."""
    stack: Limit | None = None
    """The size of a stack."""
    address_space: Limit | None = Field(default=None, alias="as")
    """The size of a process's address space."""

    @property
    def resources(self) -> dict[str, int]:
        """The limits of resources that are set, by the names of `RLIMIT_*` in lower case."""
        return self.model_dump(exclude={"time"}, exclude_none=True, by_alias=True)


class Settings(_Model):
    """How executables are started."""

    args: list[str] = []
    """Arguments. Those of the command line, after `--`, follow them."""
    env: dict[str, str] = {}
    """Environment variables."""
    format: Format | None = None
    """How the output is read. Default: detected, see [formats](formats.md)."""
    user: UserName | None = None
    """The user: a name or a number of the root file system that the tests have. Default: root."""
    capabilities: list[CapabilityName] | None = None
    """The capabilities that are kept, as in `[CAP_BPF, CAP_PERFMON]`. Default: all for root, and
    none for another user."""
    memlock: Memlock | None = None
    """The limit of locked memory: a size, `unlimited`, or `default` for the kernel's own, which is
    what users have (64K before 5.16, and 8M since). Before 5.11, the memory of eBPF maps and
    programs counts as locked. Default: `default`."""
    limits: Limits = Limits()
    """Other limits."""
    folder: Path | None = None
    """The working directory, which is the same path on the host and in the guest. Default: the
    folder of the Go package, or else `/payload`."""

    @model_validator(mode="after")
    def _variables(self) -> "Settings":
        check_variables(self.env)
        return self


class Binary(Settings):
    """A test binary, with settings of its own. Every key but `path` overrides that of `payload`."""

    path: Path
    """The file."""

    @model_validator(mode="before")
    @classmethod
    def _path(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, str | Path) else data


class Privileges(_Model):
    """What the guest's kernel allows to programs."""

    unprivileged_bpf: bool | None = None
    """Whether users without capabilities may use bpf(2): the sysctl
    `kernel.unprivileged_bpf_disabled` is 0 (`true`), or 2 (`false`). Default: as the kernel was
    built."""
    lockdown: Lockdown | None = None
    """The level of kernel lockdown, as with Secure Boot: `integrity` forbids what changes the
    kernel, `confidentiality` also what reads its memory, such as `bpf_probe_read_kernel`. Default:
    as the kernel was built."""
    bpf_token: bool | None = None
    """Whether each test runs in a user namespace of its own, whose `/sys/fs/bpf` delegates all of
    bpf(2) to it (BPF tokens, from 6.9 on). Users and groups have the same numbers there. Without
    `capabilities`, a test has all of this namespace, and none outside of it."""


class Profile(Settings, Privileges):
    """A named set of settings, which override those of `payload` and of binaries and packages.

    A kernel with a profile has the id `6.1@NAME`.
    """


def merged(*layers: Settings) -> Settings:
    """Return the settings of several layers in one: a later layer wins over an earlier one.

    A layer only has the keys that were set. Of `env` and `limits`, single keys win.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        for name in layer.model_fields_set & Settings.model_fields.keys():
            value = getattr(layer, name)
            if name == "env":
                value = {**found.get(name, {}), **value}
            elif name == "limits":
                value = found.get(name, Limits()).model_copy(update=_set_values(value))
            found[name] = value
    return Settings().model_copy(update=found)


def merged_privileges(*layers: Privileges) -> Privileges:
    """Return the privileges of several layers in one: a later layer wins over an earlier one."""
    found = {
        name: getattr(layer, name)
        for layer in layers
        for name in layer.model_fields_set & Privileges.model_fields.keys()
    }
    return Privileges().model_copy(update=found)


def _set_values(model: BaseModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.model_fields_set}


def matching_settings(name: str, patterned: Mapping[str, Settings]) -> list[Settings]:
    """Return the settings whose patterns match the import path of a package.

    A pattern stands for the whole path, or for what follows one of its slashes. The more letters a
    pattern has besides its wildcards, the later it comes.
    """
    found = [pattern for pattern in patterned if matches_package(pattern, name)]
    return [patterned[pattern] for pattern in sorted(found, key=_literal_characters)]


def matches_package(pattern: str, name: str) -> bool:
    """Whether a pattern matches an import path, or what follows one of its slashes."""
    parts = name.split("/")
    ends: Iterable[str] = ("/".join(parts[start:]) for start in range(len(parts)))
    return any(fnmatch.fnmatchcase(end, pattern) for end in ends)


def _literal_characters(pattern: str) -> int:
    return sum(character not in "*?[]" for character in pattern)
