"""The types of values in kernels.yaml: how each is written, checked and converted.

The parsers take a value as YAML gives it. ValueError says what was expected.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from bpfmatrix.errors import suggestion
from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = [
    "LOADERS",
    "Arch",
    "Bytes",
    "LoaderName",
    "MaxInsns",
    "RelativePath",
    "Seconds",
    "Sha256",
    "Url",
    "is_archive_url",
    "is_relative_path",
    "is_url",
    "matching",
    "parse_architecture",
    "parse_duration",
    "parse_max_insns",
    "parse_size",
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}
_SIZE = re.compile(r"(\d+)\s*([KMG])(?:i?B)?")
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LoaderName = Literal["libbpf", "cilium-ebpf", "aya"]
"""A loader of eBPF objects, by the name of its library (docs/loaders.md)."""
LOADERS: tuple[LoaderName, ...] = get_args(LoaderName)
Format = Literal[
    "go",
    "tap",
    "kselftest",
    "automake",
    "libtest",
    "nextest",
    "gtest",
    "catch2",
    "pytest",
    "bats",
    "plain",
    "auto",
]
"""How the output of an executable is read; `plain` is one test, whose exit status decides, and
`auto` is what the first line of the output looks like."""
FORMATS: tuple[Format, ...] = get_args(Format)
Lockdown = Literal["none", "integrity", "confidentiality"]
"""A level of kernel lockdown (kernel_lockdown(7))."""
_MAX_INSNS = r"(?:100|[1-9]\d?)%|[1-9]\d*"


def parse_duration(value: object) -> float:
    """Turn a duration such as `90`, `"90s"`, `"1.5m"`, `"500ms"` or `"2h"` into seconds.

    ValueError for anything else.
    """
    match = _DURATION.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError('expected a duration such as "90s", "2m" or "500ms"')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds <= 0:
        raise ValueError("expected a duration above zero")
    return seconds


def parse_size(value: object) -> int:
    """Turn a size such as `"512M"` or `"2G"` into bytes (powers of 1024).

    ValueError for anything else.
    """
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


def parse_max_insns(value: object) -> str:
    """Check a number of instructions, or a share such as `"80%"` of the kernel's limit.

    Return the value as text; ValueError for anything else.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(_MAX_INSNS, text):
        raise ValueError('expected a share such as "80%", or a number')
    return text


MaxInsns = Annotated[
    str,
    BeforeValidator(parse_max_insns),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^(?:{_MAX_INSNS})$"}),
]


# Other names by which people know an architecture: those of Debian, Go and Windows.
_ALIASES = {
    **{alias: known.name for known in ARCHITECTURES.values() for alias in (known.debian, known.go)},
    **{"x64": "x86_64", "x86-64": "x86_64", "powerpc64le": "ppc64le"},
}


def parse_architecture(value: object) -> str:
    """Return the name of an architecture, which Debian or Go may call otherwise.

    ValueError lists the known ones.
    """
    name = _ALIASES.get(value.lower(), value.lower()) if isinstance(value, str) else ""
    if name not in ARCHITECTURES:
        hint = suggestion(value, [*ARCHITECTURES, *_ALIASES]) if isinstance(value, str) else ""
        raise ValueError(f"expected {' or '.join(ARCHITECTURES)}{hint}")
    return name


Arch = Annotated[
    str,
    BeforeValidator(parse_architecture),
    WithJsonSchema({"enum": sorted({*ARCHITECTURES, *_ALIASES}), "type": "string"}),
]


def matching(pattern: str, expected: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Return the annotations of a string that must match a pattern as a whole.

    The error says `expected` and then this text.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


# The settings of apt and dnf have no escapes for quotes and white space.
_URL = r"(https?|file)://[^\s\"\\]+"
Url = Annotated[str, *matching(_URL, "a URL such as https://example.org/repository")]


def is_archive_url(text: str) -> bool:
    """Whether this is a URL of the type `Url`."""
    return re.fullmatch(_URL, text) is not None


def is_url(text: str) -> bool:
    """Whether this is a URL rather than a path."""
    return re.match(r"(https?|file)://", text) is not None


Sha256 = Annotated[
    str, *matching(r"[0-9a-f]{64}", "a SHA-256: 64 digits of 0-9 and a-f, in quotes")
]


# No `..`, no empty component, no NUL, and nothing that separates fields or lines of `listed`.
_RELATIVE_PATH = r"(?!\.{1,2}(?:/|$))[^/\0\t\n]+(?:/(?!\.{1,2}(?:/|$))[^/\0\t\n]+)*"
RelativePath = Annotated[str, *matching(_RELATIVE_PATH, "a relative path without . and .. in it")]


def is_relative_path(text: str) -> bool:
    """Whether this is a path of the type `RelativePath`."""
    return re.fullmatch(_RELATIVE_PATH, text) is not None


UNLIMITED = -1
"""A limit that is none."""
_LIMIT = rf"\d+|{_SIZE.pattern}|unlimited"


def parse_limit(value: object) -> int:
    """Turn a limit such as `1024`, `"8M"` or `"unlimited"` into a number, or `UNLIMITED`.

    ValueError for anything else.
    """
    text = str(value).strip()
    if text == "unlimited":
        return UNLIMITED
    if isinstance(value, bool) or not re.fullmatch(_LIMIT, text):
        raise ValueError('expected a number, a size such as "8M", or "unlimited"')
    limit = int(text) if text.isdecimal() else parse_size(text)
    if limit >= 1 << 63:
        raise ValueError('expected a number below 2^63, or "unlimited"')
    return limit


Limit = Annotated[
    int,
    BeforeValidator(parse_limit),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^(?:{_LIMIT})$"}),
]


def parse_memlock(value: object) -> int | None:
    """Turn a limit of locked memory into bytes or `UNLIMITED`; None for `"default"`.

    ValueError for anything else.
    """
    if value is None or value == "default":
        return None
    try:
        return parse_limit(value)
    except ValueError:
        raise ValueError('expected "default", "unlimited", or a size such as "64K"') from None


Memlock = Annotated[
    int | None,
    BeforeValidator(parse_memlock),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^(?:{_LIMIT}|default)$"}),
]

_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?"


def parse_user(value: object) -> str:
    """Check the name or the number of a user, and return it; ValueError if it can't be one."""
    text = str(value).strip()
    if isinstance(value, bool | float) or not re.fullmatch(_USER, text):
        raise ValueError("expected the name or the number of a user")
    if text[0].isdecimal() and not (text.isdecimal() and int(text) < (1 << 32) - 1):
        raise ValueError("expected the name of a user, or a number below 4294967295")
    return text


UserName = Annotated[
    str,
    BeforeValidator(parse_user),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{_USER}$"}),
]

# In the order of their numbers: include/uapi/linux/capability.h of the kernel (6.18).
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID"),
    *("CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE"),
    *("CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK"),
    *("CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"),
    *("CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE"),
    *("CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE"),
    *("CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG"),
    *("CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF"),
    "CAP_CHECKPOINT_RESTORE",
)


def parse_capability(value: object) -> str:
    """Check the name of a capability, such as `CAP_BPF` or `bpf`, and return it in full.

    ValueError for an unknown one.
    """
    name = str(value).strip().upper()
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in CAPABILITIES:
        hint = suggestion(name, CAPABILITIES)
        raise ValueError(f"{value!r} is no capability, such as CAP_BPF{hint}")
    return name


CapabilityName = Annotated[
    str, BeforeValidator(parse_capability), WithJsonSchema({"enum": list(CAPABILITIES)})
]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_variables(variables: Mapping[str, str]) -> None:
    """ValueError if the guest's shell can't have one of these environment variables."""
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"env: {name!r} can't be the name of a variable in the guest's shell")
        if "\0" in value:
            raise ValueError(f"env: {name}: the value contains a NUL, which no variable can hold")
