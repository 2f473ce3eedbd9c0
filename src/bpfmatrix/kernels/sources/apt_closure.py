"""Packages with all that they depend on, from several suites: what programs need in order to run.

`Catalogue` reads the indexes, and `Catalogue.closure` follows dependencies. It does not look at
conflicts: the packages are unpacked, and nothing is installed.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.kernels.sources.apt_archive import Archive
from bpfmatrix.kernels.sources.apt_packages import Deb, parse_index

if TYPE_CHECKING:
    from debian.deb822 import PkgRelation

__all__ = ["Catalogue", "Found"]

_NAME = re.compile(r"\s*Package: (\S+)\n")
_PROVIDES = re.compile(r"^Provides: (.+)$", re.MULTILINE)
_PRE_DEPENDS = re.compile(r"^Pre-Depends: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """A package, and the archive that has it."""

    deb: Deb
    archive: Archive
    needs: str
    """All dependencies of the package (`Pre-Depends` and `Depends`)."""


class Catalogue:
    """The packages of several suites. Of one name, an earlier suite's package is preferred."""

    def __init__(self, suites: Iterable[tuple[Archive, str]]) -> None:
        """Read each archive's index, as `Archive.index` gives it."""
        self._stanzas: dict[str, list[tuple[Archive, str]]] = {}
        self._providers: dict[str, list[str]] = {}
        self._without: set[tuple[Archive, str]] = set()
        for archive, text in suites:
            for stanza in text.split("\n\n"):
                if named := _NAME.match(stanza):
                    self._add(named[1], archive, stanza)

    def _add(self, name: str, archive: Archive, stanza: str) -> None:
        self._stanzas.setdefault(name, []).append((archive, stanza))
        if provided := _PROVIDES.search(stanza):
            for each in provided[1].split(","):
                self._providers.setdefault(each.split()[0].partition(":")[0], []).append(name)

    def closure(
        self,
        names: Sequence[str],
        newest: Collection[str] = (),
        without: Collection[Found] = (),
    ) -> tuple[Found, ...]:
        """Return these packages, and all that they depend on, each once.

        Of a package in `newest`, the newest version of all suites is taken; no package is one of
        `without`. KernelUnavailableError if no suite has one of `names`. A dependency that no suite
        has is left out.
        """
        from debian.deb822 import PkgRelation  # noqa: PLC0415 - off the start-up path

        self._without = {(found.archive, found.deb.sha256) for found in without}
        found: dict[str, Found] = {}
        for name in names:
            package = self._newest(name) if name in newest else self._satisfying(name, "", "")
            if package is None:
                raise KernelUnavailableError(f"no suite has the package {name}")
            found[name] = package
        pending = list(found.values())
        while pending:
            needs = pending.pop().needs
            # python-debian logs a warning about an empty field.
            for alternatives in PkgRelation.parse_relations(needs) if needs else ():
                chosen = self._chosen(alternatives, found)
                if chosen is not None and chosen.deb.name not in found:
                    found[chosen.deb.name] = chosen
                    pending.append(chosen)
        return tuple(found.values())

    def _chosen(
        self, alternatives: "Sequence[PkgRelation.ParsedRelation]", found: dict[str, Found]
    ) -> Found | None:
        """Return the package that satisfies one of these alternatives; one that is there first."""
        for relation in alternatives:
            for name in (relation["name"], *self._providers.get(relation["name"], ())):
                if name in found:
                    return found[name]
        for relation in alternatives:
            if package := self._satisfying(
                relation["name"], *(relation.get("version") or ("", ""))
            ):
                return package
        providers = (self._providers.get(relation["name"], ()) for relation in alternatives)
        return next((self._satisfying(name, "", "") for names in providers for name in names), None)

    def _satisfying(self, name: str, operator: str, version: str) -> Found | None:
        """Return the package of the first suite that satisfies a relation, else the newest one."""
        for package in self._packages(name):
            if _holds(package.deb.version, operator, version):
                return package
        return self._newest(name)

    def _newest(self, name: str) -> Found | None:
        from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

        return max(self._packages(name), key=lambda p: Version(p.deb.version), default=None)

    def _packages(self, name: str) -> Iterator[Found]:
        for archive, stanza in self._stanzas.get(name, ()):
            [deb] = parse_index(stanza, _NAME)
            before = _PRE_DEPENDS.search(stanza)
            needs = ", ".join(filter(None, (before[1] if before else "", deb.depends)))
            if (archive, deb.sha256) not in self._without:
                yield Found(deb, archive, needs)


def _holds(there: str, operator: str, version: str) -> bool:
    """Tell whether a version is in the relation of a dependency (deb-control(5)) to another."""
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    if not operator:
        return True
    one, other = Version(there), Version(version)
    return bool(
        {
            "<<": one < other,
            "<=": one <= other,
            "=": one == other,
            ">=": one >= other,
            ">>": one > other,
        }.get(operator, True)
    )
