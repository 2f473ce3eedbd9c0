"""The host's apt sources: from which archive the host gets Debian's suites.

`find` asks apt for its sources, and picks the entry for a suite. `apt-get indextargets` works
before any `apt-get update`, for both formats of sources, and for every kind of URI that apt takes.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import KernelUnavailableError

__all__ = ["AptEntry", "find", "pick"]

ARCHIVE_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

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
    """An entry of the host's apt sources, or an archive that kernels.yaml names."""

    uri: str
    suite: str
    place: str = ""
    """File and number of the entry, as apt prints them: `/etc/apt/sources.list.d/x.sources:1`."""
    keyring: Path | None = None
    """The file with the keys of an archive that kernels.yaml names."""
    components: tuple[str, ...] = ("main",)

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
        return [path for path in (*_signed_by(self.place), ARCHIVE_KEYRING) if path.exists()]


def find(suite: str) -> AptEntry:
    """Return the entry from which this host gets a suite of Debian, or would get it."""
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
    known = [
        AptEntry(uri, release, place)
        for uri, release, component, place in (row for row in rows if len(row) == 4)
        if component == "main"
    ]
    return pick(known, suite)


def pick(known: Sequence[AptEntry], suite: str) -> AptEntry:
    """Choose the entry for a suite: one that names it, else one of the same archive of Debian."""
    for entry in known:
        if entry.suite == suite:
            return entry
    debian = [entry for entry in known if _SUITE.fullmatch(entry.suite)]
    main = [entry for entry in debian if not entry.is_security]
    if not _is_security(suite):
        found = main
    else:
        found = [entry for entry in debian if entry.is_security]
        # A host of testing or unstable has no entry for the security archive. Debian's mirrors
        # have it beside the main archive, under this name.
        found += [
            AptEntry(re.sub(r"/debian/?$", "/debian-security/", entry.uri), suite, entry.place)
            for entry in main
            if re.search(r"/debian/?$", entry.uri)
        ]
    if not found:
        kind = "Debian's security archive" if _is_security(suite) else "Debian's archive"
        raise KernelUnavailableError(
            f"{suite}: the apt settings of this host name no mirror of {kind}",
            f"Add one for any Debian suite to /etc/apt/sources.list.d (component main), "
            f"signed by {ARCHIVE_KEYRING} of the package debian-archive-keyring.",
        )
    return found[0]


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
