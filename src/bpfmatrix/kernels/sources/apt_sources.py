"""Where Debian's suites are fetched from: an archive that the user named, or one that is found.

`find` takes the first that there is of these: the archives that `bpfmatrix.config.archives` has
from the user; the entry of the host's own apt for the suite, or for another suite of Debian; and
what the host's packages know of Debian. apt itself is asked for its entries: `apt-get indextargets`
works before any `apt-get update`, for both formats of sources, and for every kind of URI that apt
takes.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config import archives
from bpfmatrix.config.archives import NamedArchives
from bpfmatrix.errors import KernelUnavailableError, UsageError
from bpfmatrix.host.front_end import command
from bpfmatrix.kernels.sources import debian_mirrors
from bpfmatrix.kernels.sources.debian_mirrors import Mirror

__all__ = ["AptEntry", "choose", "find", "host_has_apt", "of_named", "pick"]

HELPER = Path("/usr/lib/apt/apt-helper")
"""The program with which apt fetches one file, and reads one of any compression."""
HOST_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Debian's own suites: entries for other distributors' archives have other suites.
_SUITE = re.compile(
    r"(?P<base>buster|bullseye|bookworm|trixie|forky|duke|sid"
    r"|(?:old){0,2}stable|testing|unstable|experimental)"
    r"(?P<pocket>|-updates|-proposed-updates|-backports(?:-sloppy)?|-security|/updates)"
)
# With release info, apt lists only what it fetched before: nothing, before the first `apt-get
# update` of a host or a container. Without lists and status, it does not read all packages of the
# host's suites, and takes 12 ms instead of 440.
_FAST = ("--no-release-info", "-oDir::State::lists=/dev/null", "-oDir::State::status=/dev/null")
_ONLY = "Created-By: Packages"
_FIELDS = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(SOURCESENTRY)"


@dataclass(frozen=True)
class AptEntry:
    """An entry of the host's apt sources, or an archive that something else names."""

    uri: str
    suite: str
    place: str = ""
    """File and number of the host's entry, as apt prints them (`/etc/apt/sources.list:1`); empty
    for an archive that is not the host's."""
    keyring: Path | None = None
    """The file with the keys of an archive that a kernel's `mirror` names."""
    components: tuple[str, ...] = ("main",)
    by: str = ""
    """What names the archive, if the host's apt does not: `kernels.yaml`, or the path of a file."""
    check_dates: bool = True
    """Whether an expired index is refused, unless the host's apt does not do that anyway."""

    @property
    def is_security(self) -> bool:
        """Whether it is for the security archive, which is apart from Debian's main archive."""
        return _is_security(self.suite)

    @property
    def keyrings(self) -> list[Path]:
        """The keyrings whose keys may sign the suite's Release file: the entry's, and Debian's.

        If there are none, apt takes those in its trusted.gpg.d, as for an entry without Signed-By.
        """
        if self.keyring is not None:
            return [self.keyring]
        found = [path for path in (*_signed_by(self.place), HOST_KEYRING) if path.exists()]
        # An entry of the host without a keyring is trusted as the host does it.
        return [*found, debian_mirrors.KEYRING] if found or not self.place else []


def find(suite: str) -> AptEntry:
    """Return the archive from which this host gets a suite.

    KernelUnavailableError if none is known; ConfigError or UsageError for what the user named.
    """
    return choose(suite, archives.named(), _of_host, debian_mirrors.find)


def choose(
    suite: str,
    named: NamedArchives | None,
    of_host: Callable[[], Sequence[AptEntry]],
    known: Callable[[], Mirror | None],
) -> AptEntry:
    """Choose the archive of a suite; see the module. The host is asked only if it has a say."""
    if named and _SUITE.fullmatch(suite):
        return of_named(suite, named)
    if entry := pick(of_host(), suite):
        return entry
    if named:
        return of_named(suite, named)
    mirror = known()
    # Beside Debian's archive first: that is one server less for a firewall to let through.
    security = (archives.security_beside(mirror.debian) or mirror.security) if mirror else None
    uri = security if _is_security(suite) else mirror.debian if mirror else None
    if mirror is None or uri is None:
        kind = "Debian's security archive" if _is_security(suite) else "Debian's archive"
        archive = command("kernels.archive")
        raise KernelUnavailableError(
            f"{suite}: no mirror of {kind} is known on this host",
            f"Name a mirror once, as in `{archive} http://mirror.example.org/debian`. Debian's "
            "page www.debian.org/mirror/list has those near you.",
        )
    return AptEntry(uri, suite, by=str(mirror.file))


def of_named(suite: str, named: NamedArchives) -> AptEntry:
    """Return the archive of a suite among those that a user named.

    UsageError for a suite of the security archive, if that is not known.
    """
    uri = named.archives.debian
    if _is_security(suite):
        beside = named.archives.security or archives.security_beside(uri)
        if beside is None:
            raise UsageError(
                f"{suite}: {named.by} names the archive {uri}, but not Debian's security archive",
                "It is known only beside an archive that ends in /debian. Name it as well: "
                f"`debian-security: URL` beside `debian: URL`, or {archives.SECURITY_VARIABLE}.",
            )
        uri = beside
    return AptEntry(uri, suite, by=named.by, check_dates=named.archives.check_dates)


def host_has_apt() -> bool:
    """Whether the host has Debian's apt; other programs called apt-get exist, such as ALT's."""
    return shutil.which("apt-get") is not None and HELPER.exists()


def _of_host() -> list[AptEntry]:
    """Return the entries of the host's apt; none if there is no apt."""
    if not host_has_apt():
        return []
    done = subprocess.run(
        ["apt-get", "indextargets", *_FAST, "--format", _FIELDS, _ONLY],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise KernelUnavailableError(
            "the apt settings of this host can't be read",
            f"`apt-get indextargets` said: {done.stderr.strip().splitlines()[:1]}",
        )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [
        AptEntry(uri, release, place)
        for uri, release, component, place in (row for row in rows if len(row) == 4)
        if component == "main"
    ]


def pick(known: Sequence[AptEntry], suite: str) -> AptEntry | None:
    """Choose the host's entry for a suite: one that names it, else one of Debian's same archive."""
    for entry in known:
        if entry.suite == suite:
            return entry
    debian = [entry for entry in known if _SUITE.fullmatch(entry.suite)]
    main = [entry for entry in debian if not entry.is_security]
    if not _is_security(suite):
        return next(iter(main), None)
    found = [entry for entry in debian if entry.is_security]
    # A host of testing or unstable has no entry for the security archive.
    found += [
        AptEntry(uri, suite, entry.place)
        for entry in main
        if (uri := archives.security_beside(entry.uri))
    ]
    return next(iter(found), None)


def _is_security(suite: str) -> bool:
    return suite.endswith(("-security", "/updates"))


def _signed_by(place: str) -> list[Path]:
    """Return the keyring files that an entry names, which `indextargets` does not print.

    A key that is in the entry itself, or a fingerprint, is not a file and is ignored.
    """
    path, _, number = place.rpartition(":")
    try:
        text = Path(path).read_text(encoding="utf-8")
        if path.endswith(".sources"):
            stanza = re.split(r"\n(?:[ \t]*\n)+", text.strip())[int(number) - 1]
            found = re.search(r"^Signed-By:[ \t]*(/.*)$", stanza, re.MULTILINE | re.IGNORECASE)
        else:
            line = text.splitlines()[int(number) - 1]
            found = re.search(r"\[[^]]*signed-by=(/[^] ]*)", line, re.IGNORECASE)
    except (OSError, ValueError, IndexError):
        return []
    return [Path(part) for part in re.split(r"[,\s]+", found[1].strip())] if found else []
