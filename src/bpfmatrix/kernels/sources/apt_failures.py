"""What goes wrong with an archive of Debian packages, each as two sentences.

They are the same whether apt fetches or bpfmatrix itself. apt has one exit status for every
failure, so `of_log` finds the failure by what apt said.
"""

import dataclasses
from pathlib import Path

from bpfmatrix.errors import (
    BpfmatrixError,
    KernelUnavailableError,
    NotInArchiveError,
    UnreachableError,
)
from bpfmatrix.kernels.sources.apt_sources import AptEntry
from bpfmatrix.kernels.sources.package_manager import Failure, explained

__all__ = [
    "CHECKSUM",
    "EXPIRED",
    "GONE",
    "NO_SUITE",
    "OTHER",
    "OTHER_SUITE",
    "SIGNATURE",
    "UNREACHABLE",
    "error_of",
    "of_log",
]

_FULL_DISK = Failure(
    r"No space left on device",
    BpfmatrixError,
    "{suite}: no space was left in the cache while it was fetched",
    "Free some space, or let BPFMATRIX_CACHE name a folder on a larger disk.",
)
SIGNATURE = Failure(
    r"NO_PUBKEY|GPG error|is (not|no longer) signed|BADSIG|EXPKEYSIG|REVKEYSIG|[Cc]learsigned"
    r"|Sub-process .*sqv",
    KernelUnavailableError,
    "{suite}: the archive's signature is missing or is by no key {of}",
    "{keyring} may have the key. {said}",
)
EXPIRED = Failure(
    r"Release file .*(is expired|is not valid yet)",
    KernelUnavailableError,
    "{suite}: the archive's index is out of date, or this host's clock is wrong",
    "{said}",
)
UNREACHABLE = Failure(
    r"Temporary failure resolving|Could not resolve|Something wicked happened resolving"
    r"|[Cc]ould not connect|Unable to connect|Cannot initiate the connection"
    r"|[Cc]onnection (failed|timed out|refused|reset)|Network is unreachable|No route to host"
    r"|Error reading from server|Could not handshake|Certificate verification failed"
    r"|  (407|50\d) |Invalid response from proxy",
    UnreachableError,
    "{suite} can't be reached",
    "{said}",
)
NO_SUITE = Failure(
    r"does not have a Release file",
    KernelUnavailableError,
    "{archive} has no suite {suite}",
    "{suites} {said}",
)
GONE = Failure(
    r"Failed to fetch \S+\s+404 ",
    NotInArchiveError,
    "{suite}: the archive no longer has a package that its index names",
    "Name another release of the series. {said}",
)
CHECKSUM = Failure(
    r"Hash Sum mismatch|File has unexpected size",
    KernelUnavailableError,
    "{suite}: what the mirror sent does not have the checksum of the signed index",
    "The mirror may just be changing: try again in a few minutes. {said}",
)
OTHER_SUITE = Failure(
    r"$^",  # of this apt only warns
    KernelUnavailableError,
    "{archive} has another suite under the name of {suite}",
    "Name another mirror of Debian. {said}",
)
OTHER = Failure(r"", KernelUnavailableError, "{suite} could not be fetched", "{said}")

# The first one that fits counts.
_OF_LOGS = (_FULL_DISK, SIGNATURE, EXPIRED, UNREACHABLE, NO_SUITE, GONE, CHECKSUM, OTHER)


def error_of(failure: Failure, entry: AptEntry, suite: str, said: str = "") -> BpfmatrixError:
    """Return the error for a failure; `said` is a sentence of details, or empty."""
    always = dataclasses.replace(failure, pattern="")
    error = explained([always], "", **_values(entry, suite, said))
    error.advice = error.advice.strip()
    return error


def of_log(log: str, entry: AptEntry, suite: str, log_path: Path | None) -> BpfmatrixError:
    """Return the error for a failed apt, by its log; it names the path of a log that is kept."""
    errors = [line.removeprefix("E: ") for line in log.splitlines() if line.startswith("E: ")]
    said = f"apt said: {errors[0] if errors else 'nothing'}"
    said += f" (all of it: {log_path})" if log_path else ""
    return explained(_OF_LOGS, log, **_values(entry, suite, said))


def _values(entry: AptEntry, suite: str, said: str) -> dict[str, str]:
    if entry.keyring:
        return {
            "suite": suite,
            "said": said,
            "of": f"of {entry.keyring}",
            "keyring": "A newer keyring package of the distribution",
            "archive": entry.uri,
            "suites": "The folders in its `dists` are its suites.",
        }
    return {
        "suite": suite,
        "said": said,
        "of": "of Debian's" if entry.by else "that this host trusts",
        "keyring": "A newer debian-archive-keyring",
        "archive": f"the archive {entry.uri} (of {entry.by})"
        if entry.by
        else "the archive that this host's apt uses",
        "suites": "Debian's suites are named like bookworm-security or trixie-backports.",
    }
