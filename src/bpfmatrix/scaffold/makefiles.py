"""Makefiles that build eBPF objects: in which folder they leave them.

A Makefile is a program, so only what most of them have is understood: a rule whose targets are
objects, with the variables and `abspath` in its name.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bpfmatrix.scaffold.go_modules import is_below
from bpfmatrix.scaffold.tree import Tree, folder_of

__all__ = ["MAKEFILES", "Make", "makes_objects", "output_of", "tests_of"]

MAKEFILES = ("Makefile", "makefile", "GNUmakefile")
"""The names of files that make reads by itself."""
_RULE = re.compile(r"^([^\s#:=][^:=\n]*):(?![:=])", re.M)
_ASSIGNMENT = re.compile(r"^\s*(?:export\s+|override\s+)?([\w.-]+)\s*[:?]?:?=\s*([^#\n]*)", re.M)
_REFERENCE = re.compile(r"\$[({]([\w.-]+)[)}]")
_FUNCTION = re.compile(r"\$[({](?:abspath|realpath)\s+([^(){}]*)[)}]")
_UNKNOWN = re.compile(r"\$[({][^(){}]*[)}]")
_OBJECT = re.compile(r"(\S*?)(%|[\w.-]+?)((?:\.bpf|_bpf|\.ebpf)?\.o)")
# The name of a test executable, which has no suffix: `load_test`, `test-load`.
_TEST = re.compile(r"[\w-]+[_-]tests?|tests?[_-][\w-]+")
# How a compiler, or rustc, is told to link without shared libraries.
_STATIC = re.compile(r"-static\b|crt-static|-musl\b")
_HERE = ("$(CURDIR)", "${CURDIR}", "$(shell pwd)", "$(PWD)", "${PWD}")


@dataclass(frozen=True)
class Make:
    """A folder with a Makefile that builds eBPF objects."""

    folder: str
    output: str
    """The folder that it leaves the objects in."""
    ending: str
    """The pattern of their names, such as `*.bpf.o`."""
    names: tuple[str, ...]
    """Their names, if other files have such names too; else empty."""
    sources: int
    """How many eBPF sources are in the folder, or below it."""

    tests: tuple[str, ...] = ()
    """The names of test executables that it builds in its folder."""
    are_static: bool = False
    """Whether these seem to be static."""

    @property
    def command(self) -> str:
        """The command that builds them."""
        return "make" if self.folder == "." else f"make -C {self.folder}"


def makes_objects(tree: Tree, sources: Sequence[str]) -> tuple[list[Make], list[str]]:
    """Return the Makefiles that build these sources, and the sources that none of them builds."""
    files = {folder_of(path): path for path in sorted(tree.named(*MAKEFILES))}
    found: dict[str, Make] = {}
    left: list[str] = []
    for source in sources:
        for folder in _above(folder_of(source)):
            if folder not in files:
                continue
            if folder in found:
                break
            text = tree.text(files[folder])
            if (rule := output_of(text)) is not None:
                found[folder] = _make(folder, text, *rule, sources)
                break
        else:
            left.append(source)
    return list(found.values()), left


def _make(folder: str, text: str, output: str, ending: str, sources: Sequence[str]) -> Make:
    place = os.path.normpath(os.path.join(folder, output))  # noqa: PTH118 - a pattern, not a path
    inside = [one for one in sources if is_below(one, folder)]
    # `bpftool gen object` makes x.bpf.o of x.tmp.bpf.o, which is the same object once more.
    names = [one.rpartition("/")[2].removesuffix("c") + "o" for one in inside]
    names = names if ".tmp.bpf.o" in text else []
    return Make(folder, place, ending, tuple(names), len(inside), *tests_of(text))


def _above(folder: str) -> list[str]:
    """Return a folder, and those above it up to the root, which is `.`."""
    parts = folder.split("/") if folder != "." else []
    return ["/".join(parts[:count]) or "." for count in range(len(parts), -1, -1)]


def output_of(text: str) -> tuple[str, str] | None:
    """Return the folder, relative to the Makefile's, and the names of the eBPF objects it builds.

    None if no rule tells.
    """
    text = text.replace("\\\n", " ")
    variables = {name: value.strip() for name, value in reversed(_ASSIGNMENT.findall(text))}
    fallback = None
    for rule in _RULE.finditer(text):
        for target in _expanded(rule[1], variables).split():
            match = _OBJECT.fullmatch(target)
            if match is None or match[1].startswith("/"):
                continue
            folder = match[1].rstrip("/") or "."
            if match[3] != ".o":
                return folder, f"*{match[3]}"
            recipe = text[rule.end() : rule.end() + 600]
            if "bpf" in recipe and fallback is None:
                fallback = folder, "*.o"
    return fallback


def tests_of(text: str) -> tuple[tuple[str, ...], bool]:
    """Return the test executables that a Makefile builds, and whether they seem to be static."""
    targets = (name for rule in _RULE.finditer(text) for name in rule[1].split())
    found = tuple(dict.fromkeys(name for name in targets if _TEST.fullmatch(name)))
    return found, _STATIC.search(text) is not None


def _expanded(text: str, variables: dict[str, str]) -> str:
    for word in _HERE:
        text = text.replace(word, ".")
    for _ in range(8):  # deeper than people nest them, and an end if they are circular
        for word in _HERE:
            text = text.replace(word, ".")
        before = text
        text = _FUNCTION.sub(r"\1", _REFERENCE.sub(lambda one: variables.get(one[1], one[0]), text))
        if text == before or len(text) > 10_000:
            break
    # Of what is left, most is empty by default: `$(OUTPUT)`, or `$(if ...)` for a variant.
    for _ in range(4):
        text = _UNKNOWN.sub("", text)
    return text.replace("//", "/")
