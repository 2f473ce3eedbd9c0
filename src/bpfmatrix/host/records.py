"""Records: small JSON files that bpfmatrix writes for itself, each with a checksum of its content.

A record appears by a rename. `read` gives back what `write` was given, or None: a record that is
missing, damaged, cut short, not UTF-8, or of another format counts as none.
"""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpfmatrix.host.checksum import sha256

__all__ = ["read", "read_unsealed", "write"]

_CHECKSUM = "checksum"
_FORMAT = "format"


def write(path: Path, data: Mapping[str, Any], format: int = 1) -> None:
    """Write a record into a folder that is there; OSError if that fails.

    `data` is what JSON can represent, without the keys `format` and `checksum`. Increase
    `format` when the meaning of the data changes.
    """
    whole = {_FORMAT: format, **data}
    text = json.dumps({**whole, _CHECKSUM: _checksum(whole)}, indent=1)
    half = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        half.write_text(text)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def read(path: Path, format: int = 1) -> dict[str, Any] | None:
    """Return the data of a record, or None."""
    data = _parsed(path, format)
    if data is None:
        return None
    found = data.pop(_CHECKSUM, None)
    if found != _checksum(data):
        return None
    del data[_FORMAT]
    return data


def read_unsealed(path: Path, format: int = 1) -> dict[str, Any] | None:
    """Return the data of a record without a checksum, as earlier versions wrote them, or None."""
    data = _parsed(path, format)
    if data is None or _CHECKSUM in data:
        return None
    data.pop(_FORMAT, None)
    return data


def _parsed(path: Path, format: int) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
    except (
        OSError,
        ValueError,
        RecursionError,
    ):  # json's errors, and that of UTF-8, are ValueErrors
        return None
    if not isinstance(data, dict) or data.get(_FORMAT, 1) != format:
        return None
    return data


def _checksum(data: Mapping[str, Any]) -> str:
    return sha256(json.dumps(data, sort_keys=True))
