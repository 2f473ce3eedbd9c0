"""Releases on a server with kernel.org's layout: their tarballs, and the checksums of these.

A folder such as `v6.x` has `linux-6.1.192.tar.xz` and other tarballs, and a clear-signed
`sha256sums.asc` with the checksum of each. Mirrors of kernel.org have this layout.
"""

import base64
import binascii
import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError, UsageError
from bpfmatrix.host import tools
from bpfmatrix.host.progress import Progress, silent

__all__ = [
    "Release",
    "fetch_tarball",
    "newest",
    "parse_sums",
    "releases",
    "resolve",
    "url_of",
    "verified",
]

SUMS = "sha256sums.asc"
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_SUM = re.compile(r"^([0-9a-f]{64})  linux-(\d+\.\d+(?:\.\d+)?)\.tar\.xz$", re.MULTILINE)
_ARMOR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:.+\n)*\n((?:[\w+/=]+\n)+?)(?:=....\n)?-"
)


@dataclass(frozen=True)
class Release:
    """One release's tarball."""

    version: str
    url: str
    sha256: str
    checked: str
    """How the checksum was verified, for people."""


def resolve(base: str, version: str, keyring: Path | None, pinned: str | None) -> Release:
    """Return the release that `version` means: that version, or the newest one of a series.

    `pinned` is the SHA-256 of an exact release, which replaces every other check. Otherwise
    `sha256sums.asc` is fetched, and its signature is checked if there is a keyring.
    """
    if pinned is not None:
        if is_series(version):
            raise UsageError(
                f"a `sha256` is for one release, and {version} is a series",
                f"Name the release, such as {version}.1, or remove the `sha256`.",
            )
        return Release(version, url_of(base, version), pinned, "checksum pinned")
    text, checked = _checked_sums(base, version, keyring)
    sums = parse_sums(text)
    found = newest(sums, version)
    if found is None:
        known = [known for known in sums if known.startswith(".".join(version.split(".")[:2]))]
        raise KernelUnavailableError(
            f"{_folder(base, version)}/{SUMS} names no release {version}",
            f"Near it are {', '.join(known[-4:])}." if known else "Is the version right?",
        )
    return Release(found, url_of(base, found), sums[found], checked)


def releases(base: str, version: str, keyring: Path | None) -> list[str]:
    """Return every release of the folder of the server that `version` is in, such as `v6.x`."""
    return list(parse_sums(_checked_sums(base, version, keyring)[0]))


def _checked_sums(base: str, version: str, keyring: Path | None) -> tuple[str, str]:
    """Return the text of `sha256sums.asc`, and how it was checked, for people."""
    url = f"{_folder(base, version)}/{SUMS}"
    signed = _sums(url)
    if keyring is None:
        return signed.decode(errors="replace"), "signature not checked"
    text, fingerprint = verified(signed, keyring, url)
    return text, f"signed by {fingerprint}"


def fetch_tarball(url: str, target: Path, sha256: str, progress: Progress = silent) -> None:
    """Download a release's tarball to `target`; an interrupted download is resumed."""
    from bpfmatrix.host import download  # noqa: PLC0415 - off the start-up path

    shown = download.shown_by(progress, url.rsplit("/", 1)[-1])
    with _advised():
        download.fetch(url, target, sha256, progress=shown)


def _sums(url: str) -> bytes:
    from bpfmatrix.host import download  # noqa: PLC0415 - off the start-up path

    with _advised():
        return download.read(url)


@contextlib.contextmanager
def _advised() -> Iterator[None]:
    """Let an error of a download say where else the sources may come from."""
    try:
        yield
    except UnreachableError as error:
        advice = (
            f"{error.advice} Try again with a network: what has come is kept. Or name another "
            "server with this layout (url), Debian's sources (from: apt), or a folder with a "
            "source tree."
        )
        raise type(error)(error.what, advice.strip()) from error


def is_series(version: str) -> bool:
    """Whether a version has two numbers, and so means the newest release of a series."""
    return _numbers(version)[2] is None


def url_of(base: str, version: str) -> str:
    """Return the URL of a release's tarball."""
    # The first release of a series is linux-6.1 there, and 6.1.0 here, where 6.1 is the series.
    name = version.removesuffix(".0") if version.count(".") == 2 else version
    return f"{_folder(base, version)}/linux-{name}.tar.xz"


def parse_sums(text: str) -> dict[str, str]:
    """Read `sha256sums.asc`: the checksums of the tarballs, by version (`6.1.0` for linux-6.1)."""
    return {
        version if version.count(".") == 2 else f"{version}.0": sha256
        for sha256, version in _SUM.findall(text)
    }


def newest(sums: dict[str, str], version: str) -> str | None:
    """Return the release that a version means, or None if it is not among `sums`."""
    if not is_series(version):
        return version if version in sums else None
    found = [known for known in sums if known.startswith(f"{version}.")]
    return max(found, key=lambda known: int(known.rsplit(".", 1)[1]), default=None)


def verified(signed: bytes, keyring: Path, name: str) -> tuple[str, str]:
    """Return the text that a key of the keyring signed, and the fingerprint of that key.

    `name` is the name of the signed file in an error. KernelUnavailableError if no key of the
    keyring made a valid signature.
    """
    gpgv = tools.require("gpgv", "gpgv")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "signed").write_bytes(signed)
        ring = Path(folder) / "keyring.gpg"
        ring.write_bytes(_binary(keyring))
        out = Path(folder) / "text"
        done = subprocess.run(
            [
                *(gpgv, "--homedir", folder, "--keyring", ring, "--status-fd", "1"),
                *("--output", out, "--", Path(folder) / "signed"),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        # doc/DETAILS of GnuPG: `[GNUPG:] VALIDSIG <fingerprint> ...`, `NO_PUBKEY <key>`.
        valid = re.search(r"^\[GNUPG:\] VALIDSIG (\w+)", done.stdout, re.MULTILINE)
        if done.returncode == 0 and valid and out.exists():
            return out.read_text(encoding="utf-8", errors="replace"), valid[1]
    if match := re.search(r"NO_PUBKEY (\w+)", done.stdout):
        what = f"{name} is signed by the key {match[1]}, which {keyring} does not have"
    elif "BADSIG" in done.stdout:
        what = f"{name} was changed after it was signed"
    else:
        what = f"{name} has no signature that {keyring} could check"
    raise KernelUnavailableError(
        what, "Name the keyring of the server's signer, or pin the tarball's `sha256`."
    )


def _binary(keyring: Path) -> bytes:
    """Return a keyring in binary form: gpgv reads no armored keyring."""
    try:
        data = keyring.read_bytes()
    except OSError as error:
        raise UsageError(f"the keyring {keyring} can't be read: {error.strerror}") from error
    if not data.startswith(b"-----BEGIN"):
        return data
    blocks = _ARMOR.findall(data.decode("ascii", "replace").replace("\r\n", "\n"))
    try:
        return b"".join(base64.b64decode(block) for block in blocks)
    except binascii.Error as error:
        raise BpfmatrixError(f"the keyring {keyring} is damaged: {error}") from error


def _folder(base: str, version: str) -> str:
    return f"{base.rstrip('/')}/v{_numbers(version)[0]}.x"


def _numbers(version: str) -> tuple[str, str, str | None]:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise UsageError(
            f"kernel.org has no release called {version!r}",
            "Expected: a version such as 5.4.276, or a series such as 6.1.",
        )
    return match[1], match[2], match[3]
