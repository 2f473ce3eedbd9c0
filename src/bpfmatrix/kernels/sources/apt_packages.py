"""Debian's packages: which one a kernel means, and what it needs.

`parse_index` reads a Packages index, `resolve` picks the package and follows its dependencies to
those that hold files.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError

if TYPE_CHECKING:
    from debian.deb822 import PkgRelation

__all__ = ["DEB_ARCH", "Deb", "closure", "default_pattern", "matching", "parse_index", "resolve"]

DEB_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}

# From 6.19 on, linux-image-X is empty; it depends on the others, of which linux-binary-X holds the
# kernel, linux-modules-X the modules, and linux-base-X the lists of what is built in. The last can
# be done without: 6.18 depends on one that holds no file of the kernel.
_PARTS = ("linux-image-", "linux-binary-", "linux-modules-", "linux-base-")
# What a pattern does not mean unless it says so: debug symbols, the unsigned twin of a signed
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

    @property
    def upstream_version(self) -> str:
        """`6.1.192` of `6.1.192-2`, `7.3.4` of `7.3.4-1~bpo13+1`."""
        match = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", self.version)
        return match[1] if match else self.version


def parse_index(text: str, wanted: re.Pattern[str] = KERNEL_STANZA) -> list[Deb]:
    """Read packages of a Packages index (deb-control(5) stanzas), in its order.

    `wanted` matches the begin of their stanzas; by default it takes kernels.
    """
    from debian.deb822 import Packages  # noqa: PLC0415 - off the start-up path

    debs = []
    for stanza in text.split("\n\n"):
        # An index has up to 60,000 stanzas, of which some hundred are kernels'.
        if not wanted.match(stanza.lstrip("\n")):
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
                )
            )
        except (KeyError, ValueError) as error:
            name = fields.get("Package", "a package")
            raise BpfmatrixError(f"the index's entry of {name} can't be read: {error}") from error
    return debs


def default_pattern(id: str, arch: str) -> str:
    """Return the package pattern of a kernel that names none."""
    series = re.match(r"\d+(?:\.\d+)+", id)
    if series is None:
        raise BpfmatrixError(
            "an id that begins with no release does not tell its package",
            f"Name the package in kernels.yaml: kernels.{id}.source.apt.package.",
        )
    return f"linux-image-{series[0]}.*-cloud-{DEB_ARCH[arch]}"


def resolve(debs: Sequence[Deb], pattern: str, where: str) -> tuple[Deb, ...]:
    """Return the newest package that the pattern means, and the packages that it depends on.

    One whose dependencies are not in the index is passed over: an archive drops the parts of an
    old release at different times. `where` is what an error calls the index.
    """
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    found = matching(debs, pattern)
    if not found:
        near = nearest(pattern, {deb.name for deb in debs if deb.name.startswith("linux-image-")})
        raise KernelUnavailableError(
            f"{where} has no package {pattern}",
            f"It has {', '.join(near)}." if near else "It has no kernel packages at all.",
        )
    # "Newest" is by Debian's order of versions; of one version, the later name.
    found.sort(key=lambda deb: (Version(deb.version), deb.name), reverse=True)
    closures = [closure(debs, deb) for deb in found]
    for packages, missing in closures:
        if not missing:
            return packages
    raise KernelUnavailableError(
        f"{where} has {found[0].name} but no longer {closures[0][1]}, which it needs",
        "Another suite may still have all of it: `invoke kernels.search TEXT` lists them.",
    )


def matching(debs: Sequence[Deb], pattern: str) -> list[Deb]:
    """Return the packages that a pattern means, in the index's order."""
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
    """Return the names that somebody may have meant; those of the same flavour first."""
    import difflib  # noqa: PLC0415 - off the start-up path

    plain = [name for name in names if not any(part in name for part in _VARIANTS)]
    wanted = pattern.replace("*", "")
    return difflib.get_close_matches(wanted, sorted(plain), n=count, cutoff=0.0)


def closure(debs: Sequence[Deb], first: Deb) -> tuple[tuple[Deb, ...], str]:
    """Return the package and those that it depends on, as far as they may hold a kernel's files.

    The text names a dependency that the index does not have; it is empty if all are there.
    """
    from debian.deb822 import PkgRelation  # noqa: PLC0415 - off the start-up path

    result, open_ends, missing = [first], [first], ""
    while open_ends:
        depends = open_ends.pop().depends
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
                open_ends.append(found[0])
    return tuple(result), missing


def _satisfying(debs: Sequence[Deb], relation: "PkgRelation.ParsedRelation") -> Deb | None:
    """Return the newest package that a dependency takes; of versions, only `=` is looked at."""
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    operator, version = relation.get("version") or ("", "")
    found = [
        deb
        for deb in debs
        if deb.name == relation["name"] and (operator != "=" or deb.version == version)
    ]
    return max(found, key=lambda deb: Version(deb.version), default=None)
