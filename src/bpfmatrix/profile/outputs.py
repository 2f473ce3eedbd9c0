"""The files that a profile is written to: the end of a file's name says in which format."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bpfmatrix.host.whole_file import write_whole
from bpfmatrix.profile import flamegraph, folded, pprof, speedscope
from bpfmatrix.profile.stacks import Stack

__all__ = ["FLAME_GRAPH", "distinct", "name_of", "suffix_of", "write"]

_Render = Callable[[Sequence[Stack], str], bytes]


def _folded(stacks: Sequence[Stack], _title: str) -> bytes:
    return folded.render(stacks).encode()


def _speedscope(stacks: Sequence[Stack], title: str) -> bytes:
    return speedscope.render(stacks, title).encode()


def _svg(stacks: Sequence[Stack], title: str) -> bytes:
    return flamegraph.render(stacks, title).encode()


FLAME_GRAPH = ".svg"
_FORMATS: dict[str, tuple[str, _Render]] = {
    FLAME_GRAPH: ("flame graph", _svg),
    ".folded": ("folded", _folded),
    ".txt": ("folded", _folded),
    ".speedscope.json": ("speedscope", _speedscope),
    ".pb.gz": ("pprof", pprof.render),
}


def suffix_of(path: Path) -> str:
    """Return the suffix that decides the format; ValueError if there is no such format."""
    for suffix in _FORMATS:
        if path.name.endswith(suffix):
            return suffix
    *suffixes, last = _FORMATS
    raise ValueError(f"expected a file name that ends in {', '.join(suffixes)} or {last}")


def name_of(suffix: str) -> str:
    """Return the name of a suffix's format, in at most 12 letters."""
    return _FORMATS[suffix][0]


def distinct(files: Iterable[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Return the files with their suffixes, each file once, in the order of the first mention."""
    found: dict[str, tuple[Path, str]] = {}
    for path, suffix in files:
        found.setdefault(os.path.abspath(path), (path, suffix))  # noqa: PTH100 - keeps links
    return list(found.values())


def write(stacks: Sequence[Stack], title: str, path: Path, suffix: str) -> None:
    """Write a file in the format of a suffix; OSError names the file."""
    _, render = _FORMATS[suffix]
    write_whole(path, render(stacks, title))
