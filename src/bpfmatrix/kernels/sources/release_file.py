"""The Release file of a suite: whether it is to be trusted, and which indexes it names.

Debian's wiki page DebianRepository/Format describes its fields.
"""

import email.utils
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bpfmatrix.kernels.sources import apt_failures, signatures
from bpfmatrix.kernels.sources.apt_sources import AptEntry

if TYPE_CHECKING:
    from debian.deb822 import Release

__all__ = ["Index", "date_of", "expiry", "indexes", "is_suite", "parse", "verified"]

# As apt's Acquire::Max-FutureTime: how far the clocks of two hosts may be apart.
_FUTURE_SECONDS = 10
# By preference; every index of Debian has at least one of the first two.
_SUFFIXES = (".xz", ".gz", "")


@dataclass(frozen=True)
class Index:
    """A `Packages` index, as a Release file has it."""

    path: str
    """Its path in the suite's folder: `main/binary-amd64/Packages.xz`."""
    sha256: str
    by_hash: bool
    """Whether it is there under its checksum, too."""


def verified(in_release: bytes, entry: AptEntry, suite: str, check_dates: bool) -> bytes:
    """Return the signed text of an InRelease file, as which it is parsed.

    KernelUnavailableError if no key of the archive signed it, if it is of another suite of Debian,
    or if `check_dates` and it does not hold now.
    """
    text = signatures.signed_text(in_release, entry.keyrings)
    if text is None:
        raise apt_failures.error_of(apt_failures.SIGNATURE, entry, suite)
    release = parse(text)
    if not entry.keyring and not is_suite(release, suite):
        said = f"It is {release.get('Codename') or release.get('Suite') or 'unnamed'}."
        raise apt_failures.error_of(apt_failures.OTHER_SUITE, entry, suite, said)
    if check_dates and (why := expiry(release, datetime.now(UTC))):
        raise apt_failures.error_of(apt_failures.EXPIRED, entry, suite, why)
    return text


def is_suite(release: Mapping[str, str], suite: str) -> bool:
    """Whether a Release file is that of a suite of Debian, by its name or its codename.

    All suites of Debian are signed by the same keys, so the signature does not tell.
    """
    names = {release.get("Suite", ""), release.get("Codename", "")}
    # `bullseye/updates` and before: the security archive's names before Debian 11.
    return bool({suite, suite.removesuffix("/updates")} & (names - {""}))


def expiry(release: Mapping[str, str], now: datetime) -> str:
    """Return why a Release file does not hold at a time; empty if it does."""
    date = date_of(release, "Date")
    if date > now + timedelta(seconds=_FUTURE_SECONDS):
        return f"Its date is {date:%Y-%m-%d %H:%M} UTC, which is not yet."
    if release.get("Valid-Until") and (end := date_of(release, "Valid-Until")) < now:
        return f"It is expired: it was valid until {end:%Y-%m-%d %H:%M} UTC."
    return ""


def indexes(release: "Release", components: Sequence[str], arch: str) -> list[Index]:
    """Return the `Packages` indexes of a suite for an architecture, in Debian's name.

    There are none for an architecture that the suite does not have. Packages for all architectures
    are in an index of their own only where the Release file does not deny that.
    """
    has_all = "all" in release.get("Architectures", "").split()
    own = has_all and "Packages" not in release.get("No-Support-for-Architecture-all", "")
    sums = {entry["name"]: entry["sha256"] for entry in release.get("SHA256", [])}
    by_hash = release.get("Acquire-By-Hash", "") == "yes"
    found = []
    for component in components:
        for each in (arch, "all") if own else (arch,):
            names = (f"{component}/binary-{each}/Packages{suffix}" for suffix in _SUFFIXES)
            if name := next((name for name in names if name in sums), None):
                found.append(Index(name, sums[name], by_hash))
    return found


def parse(text: bytes) -> "Release":
    """Return the fields of a Release file."""
    from debian.deb822 import Release  # noqa: PLC0415 - off the start-up path

    return Release(text)


def date_of(release: Mapping[str, str], field: str) -> datetime:
    """Return a date of a Release file; the distant past if it has none that can be read."""
    try:
        date = email.utils.parsedate_to_datetime(release.get(field, ""))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
