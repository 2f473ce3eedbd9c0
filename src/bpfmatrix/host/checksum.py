"""SHA-256 checksums, in hexadecimal: of files, of bytes and text, of keys, and of streams."""

import hashlib
import json
from io import FileIO
from pathlib import Path

__all__ = ["RunningSha256", "key_of", "sha256", "sha256_of", "sha256_of_open"]


def sha256_of(path: Path) -> str:
    """Return the checksum of a file's content, which is read in pieces; OSError if it can't be."""
    with path.open("rb", buffering=0) as file:
        return sha256_of_open(file)


def sha256_of_open(file: FileIO) -> str:
    """Return the checksum of what is left to read of an open file; OSError if it can't be read."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(content: bytes | str) -> str:
    """Return the checksum of bytes, or of a text encoded as UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def key_of(value: object) -> str:
    """Return the checksum of a value's JSON, as the key of something that depends on the value.

    TypeError if JSON can't represent the value.
    """
    return sha256(json.dumps(value))


class RunningSha256:
    """The checksum of content that arrives in pieces."""

    def __init__(self, content: bytes = b"") -> None:
        self._hash = hashlib.sha256(content)

    def update(self, content: bytes) -> None:
        """Add the next piece."""
        self._hash.update(content)

    def hexdigest(self) -> str:
        """Return the checksum of all pieces so far."""
        return self._hash.hexdigest()
