"""The types of values in kernels.yaml: how each is written, checked and converted.

The parsers take a value as YAML gives it. ValueError says what was expected.
"""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

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


def parse_architecture(value: object) -> str:
    """Check the name of an architecture and return it; ValueError lists the known ones."""
    if not isinstance(value, str) or value not in ARCHITECTURES:
        raise ValueError(f"expected {' or '.join(ARCHITECTURES)}")
    return value


Arch = Annotated[
    str,
    BeforeValidator(parse_architecture),
    WithJsonSchema({"enum": list(ARCHITECTURES), "type": "string"}),
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
Url = Annotated[
    str, *matching(r"(https?|file)://[^\s\"\\]+", "a URL such as https://example.org/repository")
]


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
