"""Texts that are signed within themselves, as a Debian archive's InRelease is.

pysequoia verifies them: it is Sequoia, with which apt itself does that from Debian 13 on, as a
wheel for Linux and macOS that needs no program of the host. PGPy has had no release since 2022, and
gpgv is not on every host without apt.
"""

from collections.abc import Iterable
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, ToolMissingError

__all__ = ["signed_text"]


def signed_text(data: bytes, keyrings: Iterable[Path]) -> bytes | None:
    """Return the text of a clear-signed file that a key of the keyrings signed; None if none did.

    Only what is returned is signed: the file may have more, before or behind it. A keyring is a
    file of OpenPGP certificates, binary or armored; BpfmatrixError if one can't be read.
    """
    try:
        import pysequoia  # noqa: PLC0415 - slow to import
    except ImportError as error:
        raise ToolMissingError(
            f"the signature of an archive can't be checked: {error}",
            "Install apt, or the Python package pysequoia.",
        ) from error

    certificates = []
    for keyring in keyrings:
        try:
            certificates += pysequoia.Cert.split_bytes(keyring.read_bytes())
        except (OSError, RuntimeError) as error:
            raise BpfmatrixError(
                f"the keyring {keyring} can't be read: {_first_line(error)}",
                "Expected: a file with OpenPGP keys, as packages of keyrings have it.",
            ) from error
    try:
        return pysequoia.verify(data, lambda _: certificates).bytes
    except RuntimeError:  # no valid signature, or no signature at all
        return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]  # pysequoia's errors go on with a stack of Rust
