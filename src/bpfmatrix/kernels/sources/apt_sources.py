"""Where a suite is: for Debian's, the archive that the host's own apt uses.

`find` asks apt (`apt-get indextargets` works before any `apt-get update`, for both formats of
sources, and for every kind of URI that apt takes) and picks the archive of a suite.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import KernelUnavailableError

__all__ = ["Mirror", "find", "pick"]

ARCHIVE_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Debian's own suites; an entry of somebody else's repository has a name of its own here.
_SUITE = re.compile(
    r"(?P<base>buster|bullseye|bookworm|trixie|forky|duke|sid"
    r"|(?:old){0,2}stable|testing|unstable|experimental)"
    r"(?P<pocket>|-updates|-proposed-updates|-backports(?:-sloppy)?|-security|/updates)"
)
# With release info, only what the host's apt fetched before would be listed: nothing, on a host or
# in a container without its first `apt-get update`. Without lists and status, apt need not read
# all packages of the host's suites: 12 ms in place of 440.
_FAST = ("--no-release-info", "-oDir::State::lists=/dev/null", "-oDir::State::status=/dev/null")
_ONLY = "Created-By: Packages"
_FIELDS = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(SOURCESENTRY)"


@dataclass(frozen=True)
class Mirror:
    """An entry of the host's apt sources, or an archive that kernels.yaml names."""

    uri: str
    suite: str
    entry: str = ""
    """File and number of the entry, as apt says it: `/etc/apt/sources.list.d/x.sources:1`."""
    keyring: Path | None = None
    """The keys of an archive that kernels.yaml names."""
    components: tuple[str, ...] = ("main",)

    @property
    def is_security(self) -> bool:
        """Whether it is of the security archive, which Debian keeps apart."""
        return _is_security(self.suite)

    @property
    def keyrings(self) -> list[Path]:
        """The keyrings that its Release file may be signed with: the entry's, and Debian's.

        Empty where there are none: apt then takes those in its trusted.gpg.d, as it does for
        an entry without Signed-By.
        """
        if self.keyring is not None:
            return [self.keyring]
        return [path for path in (*_signed_by(self.entry), ARCHIVE_KEYRING) if path.exists()]


def find(suite: str) -> Mirror:
    """Return where this host gets Debian's suite from, or would."""
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
        Mirror(uri, release, entry)
        for uri, release, component, entry in (row for row in rows if len(row) == 4)
        if component == "main"
    ]
    return pick(known, suite)


def pick(known: Sequence[Mirror], suite: str) -> Mirror:
    """Choose the entry for a suite: one that names it, else one of the same archive of Debian."""
    for mirror in known:
        if mirror.suite == suite:
            return mirror
    debian = [mirror for mirror in known if _SUITE.fullmatch(mirror.suite)]
    main = [mirror for mirror in debian if not mirror.is_security]
    if not _is_security(suite):
        found = main
    else:
        found = [mirror for mirror in debian if mirror.is_security]
        # A host of testing or unstable has no security archive; on Debian's mirrors the two lie
        # side by side under these names.
        found += [
            Mirror(re.sub(r"/debian/?$", "/debian-security/", mirror.uri), suite, mirror.entry)
            for mirror in main
            if re.search(r"/debian/?$", mirror.uri)
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


def _signed_by(entry: str) -> list[Path]:
    """Return the keyring files that an entry names (`indextargets` does not tell them).

    A key that stands in the entry itself, or a fingerprint, is not a file and is passed over.
    """
    path, _, number = entry.rpartition(":")
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
