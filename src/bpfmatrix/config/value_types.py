"""The kinds of values that kernels.yaml has: how each is written, checked, and what is made of it.

The parsers raise ValueError, whose words say what was expected.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = [
    "OCI_REFERENCE",
    "Arch",
    "Bytes",
    "Place",
    "Seconds",
    "Sha256",
    "Share",
    "Url",
    "is_place",
    "is_url",
    "like",
    "parse_architecture",
    "parse_duration",
    "parse_share",
    "parse_size",
]

# [http://][host[:port]/]path[:tag][@digest]: the grammar of github.com/distribution/reference.
_OCI_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
OCI_REFERENCE = (
    r"^(?:http://)?(?:(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]+)?/)?"
    rf"{_OCI_WORD}(?:/{_OCI_WORD})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}
_SIZE = re.compile(r"(\d+)\s*([KMG])(?:i?B)?")
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SHARE = r"(?:100|[1-9]\d?)%|[1-9]\d*"


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


def parse_architecture(value: object) -> str:
    """Check the name of an architecture and return it; ValueError names those that there are."""
    if not isinstance(value, str) or value not in ARCHITECTURES:
        raise ValueError(f"expected {' or '.join(ARCHITECTURES)}")
    return value


Arch = Annotated[
    str,
    BeforeValidator(parse_architecture),
    WithJsonSchema({"enum": list(ARCHITECTURES), "type": "string"}),
]


def is_url(text: str) -> bool:
    """Whether this is an address, and not a path."""
    return re.match(r"(https?|file)://", text) is not None


def is_place(text: str) -> bool:
    """Whether this can be a file's place in a tree."""
    return re.fullmatch(PLACE, text) is not None


def like(pattern: str, expected: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Return what makes a text in a model match a pattern; `expected` is for the error."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


# What apt and dnf read out of their settings has no escape for quotes and white space.
Url = Annotated[
    str, *like(r"(https?|file)://[^\s\"\\]+", "an address such as https://example.org/repository")
]
Sha256 = Annotated[str, *like(r"[0-9a-f]{64}", "a SHA-256: 64 digits of 0-9 and a-f, in quotes")]


# Where a file stands in a tree: no `..`, nothing empty, nothing that a line of text can't hold.
PLACE = r"(?!\.{1,2}(?:/|$))[^/\0\t\n]+(?:/(?!\.{1,2}(?:/|$))[^/\0\t\n]+)*"
Place = Annotated[str, *like(PLACE, "a relative path without . and .. in it")]
