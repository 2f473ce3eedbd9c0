"""Names of tests: which executable one belongs to, short names for people, and their selection.

An executable is named by the import path of its Go package, or else by its file. `PACKAGE` below is
such a name, or its end from a `/` on, or a pattern such as `internal/*`.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from bpfmatrix.errors import UsageError, suggestion

__all__ = ["Labels", "Selection", "named", "split_pattern"]

# What import paths and patterns for them are made of.
_PACKAGE = re.compile(r"[\w./~+*?!\[\]-]+")
_GO_TEST = re.compile(r"(Test|Fuzz|Example)\w*")
# What regular expressions have, and import paths have not.
_SIGNS = re.compile(r"[*?+\[\]()^$|\\]")


class _Named(Protocol):
    @property
    def binary(self) -> str: ...

    @property
    def name(self) -> str: ...


def named(package: str, names: Collection[str]) -> list[str]:
    """Return the names of executables that PACKAGE stands for; a name itself is only that one."""
    # Completion in a shell needs only `Labels`, and does not wait for the models of kernels.yaml.
    from bpfmatrix.config.settings import matches_package  # noqa: PLC0415

    if package in names:
        return [package]
    return [name for name in names if matches_package(package, name)]


def split_pattern(text: str) -> tuple[str, str] | None:
    """Return the two parts of PACKAGE:PATTERN; None if the text is a pattern alone."""
    package, colon, pattern = text.partition(":")
    return (package, pattern) if colon and _PACKAGE.fullmatch(package) else None


def _is_expression(text: str) -> bool:
    return _SIGNS.search(text) is not None or _PACKAGE.fullmatch(text) is None


def _is_go_test(name: str) -> bool:
    """Whether a name can be that of a test of Go, or of a subtest."""
    return _GO_TEST.fullmatch(name.split("/", maxsplit=1)[0]) is not None


@dataclass(frozen=True)
class Selection:
    """The executables that run, and the regular expression for their tests; None for all tests.

    If the executables are not `chosen` by their names, the regular expression chooses among them,
    too.
    """

    names: frozenset[str]
    pattern: str | None = None
    chosen: bool = False

    @classmethod
    def of(cls, run: str | None, names: Collection[str]) -> "Selection":
        """Return what `--run REGEX` or `--run PACKAGE:REGEX` selects of these executables.

        UsageError if there is no such package.
        """
        package, colon, pattern = (run or "").partition(":")
        if not colon:
            return cls(frozenset(names), run)
        if not (found := named(package, names)):
            # The names of tests have colons, too, as in `TestDial/tcp:80` and `maps::full`.
            if _is_expression(package) or pattern.startswith(":") or _is_go_test(package):
                return cls(frozenset(names), run)
            raise UsageError(
                f"--run {run}: no package is called {package!r}{suggestion(package, list(names))}",
                f"There are: {', '.join(sorted(names))}.",
            )
        return cls(frozenset(found), pattern or None, chosen=True)


class Labels:
    """What people read of tests: those of several executables are told apart, as `a/x:TestX`."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are those of the executables with several tests."""
        self._short = _short_names(set(names))

    @classmethod
    def of_results(cls, tests: Iterable[_Named]) -> "Labels":
        """Return the labels for results."""
        return cls(test.binary for test in tests if test.binary != test.name)

    def of(self, test: _Named) -> str:
        """Return the label of a test, or of an executable that is one."""
        short = self._short.get(test.binary, test.binary)
        if test.binary == test.name:
            return short
        # Executables that are not known to have several tests may turn out to have them.
        alone = not self._short or self._short.keys() == {test.binary}
        return test.name if alone else f"{short}:{test.name}"

    def selecting(self, test: _Named) -> str:
        """Return the text after `--run` that selects a test, with all of its subtests.

        Only Go's test binaries can be told which of their tests to run.
        """
        if test.binary == test.name or not _is_go_test(test.name):
            short = self._short.get(test.binary)
            return f"{short}:" if short else test.binary
        return self.of(test).removesuffix(test.name) + test.name.split("/")[0]


def _short_names(names: Collection[str]) -> dict[str, str]:
    """Return the shortest end of each name, from a `/` on, that no other name has."""
    ends: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        for at in range(len(parts)):
            ends.setdefault("/".join(parts[at:]), []).append(name)
    return {
        name: min((end for end, having in ends.items() if having == [name]), key=len, default=name)
        for name in names
    }
