"""Packages of an apt index: which one a kernel means, and which others it needs.

`parse_index` reads a Packages index. `resolve` picks the package, and follows its dependencies to
the packages with the kernel's files.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.front_end import command

if TYPE_CHECKING:
    from debian.deb822 import PkgRelation

__all__ = ["Deb", "closure", "default_pattern", "matching", "parse_index", "resolve"]


# From 6.19 on, Debian's linux-image-X is empty and depends on the others: linux-binary-X has the
# kernel, linux-modules-X the modules, linux-base-X the lists of what is built in. linux-base-X may
# be missing: the one on which 6.18 depends has no files of the kernel.
_PARTS = ("linux-image-", "linux-binary-", "linux-modules-", "linux-base-")
# What a pattern matches only if it contains this: debug symbols, the unsigned variant of a signed
# image, real-time kernels.
_VARIANTS = ("-dbg", "-unsigned", "-rt")
KERNEL_STANZA = re.compile(r"Package: (linux-(?:image|binary|modules|base)-[^\n]*)\n")


@dataclass(frozen=True)
class Deb:
    """One package of an index."""

    name: str
    version: str
    depends: str
    size_bytes: int
    installed_bytes: int
    sha256: str
    filename: str = ""
    """The path of the package's file in the archive."""

    @property
    def upstream_version(self) -> str:
        """`6.1.192` of `6.1.192-2`, `7.3.4` of `7.3.4-1~bpo13+1`."""
        return versions.upstream(self.version)


def parse_index(text: str, stanzas: re.Pattern[str] = KERNEL_STANZA) -> list[Deb]:
    """Read the packages of a Packages index (deb-control(5) stanzas), in its order.

    `stanzas` is a pattern for the start of a stanza; by default it is that of kernel packages.
    """
    from debian.deb822 import Packages  # noqa: PLC0415 - off the start-up path

    debs = []
    for stanza in text.split("\n\n"):
        # Checked before it is parsed: of up to 60,000 stanzas, some hundred are of kernels.
        if not stanzas.match(stanza.lstrip("\n")):
            continue
        fields = Packages(stanza)
        try:
            debs.append(
                Deb(
                    name=fields["Package"],
                    version=fields["Version"],
                    depends=fields.get("Depends", ""),
                    size_bytes=int(fields["Size"]),
                    installed_bytes=int(fields.get("Installed-Size", "0")) << 10,
                    sha256=fields["SHA256"],
                    filename=fields.get("Filename", ""),
                )
            )
        except (KeyError, ValueError) as error:
            name = fields.get("Package", "a package")
            raise BpfmatrixError(f"the index's entry of {name} can't be read: {error}") from error
    return debs


def default_pattern(id: str, arch: str) -> str:
    """Return the pattern of packages for a kernel whose source names no package."""
    series = versions.leading_version(id)
    if not series:
        raise BpfmatrixError(
            "there is no default package for an id that does not begin with a release",
            f"Name the package in kernels.yaml: kernels.{id}.source.apt.package.",
        )
    return f"linux-image-{series}.*-{ARCHITECTURES[arch].debian_kernel}"


def resolve(
    debs: Sequence[Deb], pattern: str, where: str, missing_files: Collection[Deb] = ()
) -> tuple[Deb, ...]:
    """Return the newest package of a pattern, and the packages with kernel files that it needs.

    A package whose dependencies are not in the index is passed over: an archive drops the packages
    of an old release at different times. So are those of `missing_files`, which are in the index
    and not in the archive. `where` is the name of the index in an error.
    """
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    found = matching(debs, pattern)
    if not found:
        near = nearest(pattern, {deb.name for deb in debs if deb.name.startswith("linux-image-")})
        raise KernelUnavailableError(
            f"{where} has no package {pattern}",
            f"It has {', '.join(near)}." if near else "It has no kernel packages at all.",
        )
    # The newest by Debian's order of versions; of two with the same version, the later name.
    found.sort(key=lambda deb: (Version(deb.version), deb.name), reverse=True)
    closures = [closure(debs, deb) for deb in found]
    for packages, missing in closures:
        if not missing and not any(deb in missing_files for deb in packages):
            return packages
    raise KernelUnavailableError(
        f"{where} has {found[0].name} but no longer {closures[0][1]}, which it needs",
        f"Another suite may still have all of it: `{command('kernels.search TEXT')}` lists them.",
    )


def matching(debs: Sequence[Deb], pattern: str) -> list[Deb]:
    """Return the packages that a pattern matches, in the order of the index."""
    if "*" not in pattern:
        return [deb for deb in debs if deb.name == pattern]
    unwanted = [part for part in _VARIANTS if part not in pattern]
    return [
        deb
        for deb in debs
        if fnmatch.fnmatchcase(deb.name, pattern)
        and not any(re.search(rf"{part}(-|$)", deb.name) for part in unwanted)
    ]


def nearest(pattern: str, names: Iterable[str], count: int = 4) -> list[str]:
    """Return the names that are most like a pattern, for an error's advice."""
    import difflib  # noqa: PLC0415 - off the start-up path

    plain = [name for name in names if not any(part in name for part in _VARIANTS)]
    wanted = pattern.replace("*", "")
    return difflib.get_close_matches(wanted, sorted(plain), n=count, cutoff=0.0)


def closure(debs: Sequence[Deb], first: Deb) -> tuple[tuple[Deb, ...], str]:
    """Return a package and its dependencies, as far as they may have a kernel's files.

    The text is the name of a dependency that the index does not have, or "" if it has all.
    """
    from debian.deb822 import PkgRelation  # noqa: PLC0415 - off the start-up path

    result, pending, missing = [first], [first], ""
    while pending:
        depends = pending.pop().depends
        # python-debian logs a warning about an empty field.
        for alternatives in PkgRelation.parse_relations(depends) if depends else ():
            parts = [relation for relation in alternatives if relation["name"].startswith(_PARTS)]
            if not parts:
                continue
            found = [deb for relation in parts if (deb := _satisfying(debs, relation))]
            if not found and not parts[0]["name"].startswith("linux-base-"):
                missing = parts[0]["name"]
            if found and found[0] not in result:
                result.append(found[0])
                pending.append(found[0])
    return tuple(result), missing


def _satisfying(debs: Sequence[Deb], relation: "PkgRelation.ParsedRelation") -> Deb | None:
    """Return the newest package that satisfies a dependency; only the relation `=` counts."""
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    operator, version = relation.get("version") or ("", "")
    found = [
        deb
        for deb in debs
        if deb.name == relation["name"] and (operator != "=" or deb.version == version)
    ]
    return max(found, key=lambda deb: Version(deb.version), default=None)
