"""Packages with all that they depend on, from several suites: what programs need in order to run.

`Catalogue` reads the indexes, and `Catalogue.closure` follows dependencies. It does not look at
conflicts: the packages are unpacked, and nothing is installed.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.kernels.sources.apt_archive import Archive
from bpfmatrix.kernels.sources.apt_packages import Deb, parse_index

if TYPE_CHECKING:
    from debian.deb822 import PkgRelation

__all__ = ["Catalogue", "Found"]

_NAME = re.compile(r"\s*Package: (\S+)\n")
# A field may go on in lines that begin with a space (deb-control(5)).
_PROVIDES = re.compile(r"^Provides: (.+(?:\n[ \t].*)*)", re.MULTILINE)
_PRE_DEPENDS = re.compile(r"^Pre-Depends: (.+(?:\n[ \t].*)*)", re.MULTILINE)
_PROVIDED = re.compile(r"([^\s,:(]+)(?::\w+)?\s*(?:\(\s*=\s*([^\s)]+)\s*\))?")


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
        # For the name of a virtual package: the packages, each with the version that it provides.
        self._providers: dict[str, list[tuple[str, str]]] = {}
        self._without: set[tuple[Archive, str]] = set()
        for archive, text in suites:
            for stanza in text.split("\n\n"):
                if named := _NAME.match(stanza):
                    self._add(named[1], archive, stanza)

    def _add(self, name: str, archive: Archive, stanza: str) -> None:
        self._stanzas.setdefault(name, []).append((archive, stanza))
        if provided := _PROVIDES.search(stanza):
            for virtual, version in _PROVIDED.findall(provided[1]):
                self._providers.setdefault(virtual, []).append((name, version))

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
        """Return the package that satisfies one of these alternatives; one that is there first.

        None if no suite has one. A package that is there is taken even in another version, since
        only one version of it can be.
        """
        for relation in alternatives:
            for name in (relation["name"], *self._providing(relation)):
                if name in found:
                    return found[name]
        for relation in alternatives:
            if package := self._satisfying(relation["name"], *_version_in(relation)):
                return package
            for name in self._providing(relation):
                if package := self._satisfying(name, "", ""):
                    return package
        return None

    def _providing(self, relation: "PkgRelation.ParsedRelation") -> list[str]:
        """Return the packages that provide what a relation names, in a version that fits."""
        operator, version = _version_in(relation)
        return [
            name
            for name, provided in self._providers.get(relation["name"], ())
            # Without a version, a virtual package fits only a relation without one.
            if not operator or (provided and _holds(provided, operator, version))
        ]

    def _satisfying(self, name: str, operator: str, version: str) -> Found | None:
        """Return the package of the first suite that satisfies a relation; None if none does."""
        for package in self._packages(name):
            if _holds(package.deb.version, operator, version):
                return package
        return None

    def _newest(self, name: str) -> Found | None:
        from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

        def version(package: Found) -> Version:
            try:
                return Version(package.deb.version)
            except ValueError:
                raise BpfmatrixError(
                    f"the index's entry of {name} can't be read: its version is "
                    f"{package.deb.version!r}"
                ) from None

        return max(self._packages(name), key=version, default=None)

    def _packages(self, name: str) -> Iterator[Found]:
        for archive, stanza in self._stanzas.get(name, ()):
            [deb] = parse_index(stanza, _NAME)
            before = _PRE_DEPENDS.search(stanza)
            needs = ", ".join(filter(None, (before[1] if before else "", deb.depends)))
            if (archive, deb.sha256) not in self._without:
                yield Found(deb, archive, needs)


def _version_in(relation: "PkgRelation.ParsedRelation") -> tuple[str, str]:
    return relation.get("version") or ("", "")


def _holds(there: str, operator: str, version: str) -> bool:
    """Tell whether a version is in the relation of a dependency (deb-control(5)) to another.

    A text that is no version is in no relation.
    """
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    if not operator:
        return True
    try:
        one, other = Version(there), Version(version)
    except ValueError:
        return False
    return bool(
        {
            "<<": one < other,
            "<=": one <= other,
            "=": one == other,
            ">=": one >= other,
            ">>": one > other,
        }.get(operator, True)
    )
