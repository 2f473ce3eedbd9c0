"""What is known of a program that did not load: what its loader reports, and what the host knows.

`Failure.parse` reads a `failure` of a loader, as docs/loaders.md describes it. A `Reason` is what
the other modules of this package make of these facts.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bpfmatrix.results.verification import Code

__all__ = ["Failure", "KernelFacts", "MapFacts", "Missing", "ProgramFacts", "Reason"]

_WORDS = 50
_WORD_CHARACTERS = 1000


@dataclass(frozen=True)
class Reason:
    """Why a program did not load."""

    code: Code
    text: str
    """One line for people."""


@dataclass(frozen=True)
class MapFacts:
    """A map that could not be made."""

    name: str
    type: str = ""
    entries: int = 0


@dataclass(frozen=True)
class Missing:
    """What a loader knows to be missing."""

    kind: str
    """One of the kinds in docs/loaders.md, such as `kfunc`."""
    name: str = ""


@dataclass(frozen=True)
class Failure:
    """What a loader says of a failure."""

    step: str = ""
    """Where it failed: `open`, `btf`, `map`, `relocate`, `target`, `load` or `attach`."""
    errno: str = ""
    """The name of an error, such as `EINVAL`."""
    words: tuple[str, ...] = ()
    """What the library said, line by line, the cause first."""
    map: MapFacts | None = None
    type_supported: bool | None = None
    """Whether a probe of the map's or the program's type worked; None if none was made."""
    missing: Missing | None = None
    log: str = ""
    """The end of the verifier's log, if there is one."""

    @classmethod
    def parse(cls, data: Any, log: str = "") -> "Failure":
        """Read a failure from its JSON; ValueError, TypeError or KeyError if it is none."""
        if not isinstance(data, dict):
            raise TypeError("a failure is an object")
        words, map, missing = data.get("words") or [], data.get("map"), data.get("missing")
        supported = data.get("type_supported")
        if not isinstance(words, list):
            raise TypeError("words are a list")
        lines = [_one_line(word).removeprefix("libbpf: ") for word in words[:_WORDS]]
        return cls(
            step=str(data.get("step", "")),
            errno=_one_line(data.get("errno", "")),
            words=tuple(line for line in lines if line),
            map=None if map is None else _map(map),
            type_supported=supported if isinstance(supported, bool) else None,
            missing=None
            if missing is None
            else Missing(_one_line(missing["kind"]), _one_line(missing.get("name", ""))),
            log=log or str(data.get("log", "")),
        )

    @property
    def said(self) -> str:
        """All words of the library, a line each."""
        return "\n".join(self.words)


def _one_line(value: Any) -> str:
    return " ".join(str(value)[:_WORD_CHARACTERS].split())


def _map(data: Mapping[str, Any]) -> MapFacts:
    entries = data.get("entries")
    return MapFacts(
        _one_line(data["name"]),
        _one_line(data.get("type", "")),
        entries if isinstance(entries, int) else 0,
    )


@dataclass(frozen=True)
class ProgramFacts:
    """The program that did not load; everything is empty if its object could not be opened."""

    type: str = ""
    """As libbpf names it: `sched_cls`."""
    section: str = ""
    attach_to: str = ""

    @property
    def kind(self) -> str:
        """The first part of the section's name, without what makes it optional: `fentry`."""
        return re.split(r"[/.+]", self.section.lstrip("?"), maxsplit=1)[0]


def _unknown_module(kind: str, name: str) -> str:
    del kind, name
    return ""


@dataclass(frozen=True)
class KernelFacts:
    """What is known of the kernel."""

    has_btf: bool | None = None
    """None if it is not known."""
    module_of: Callable[[str, str], str] = field(default=_unknown_module)
    """Returns the name of a module that the kernel has, but that is not loaded, and that contains
    something: a `function`, another `symbol` or a `struct_ops` of this name; empty if none does."""
