"""The output of a program in the guest that prints JSON lines, read while it comes."""

import json
from typing import Any

__all__ = ["JsonLines"]


class JsonLines:
    """Splits output into lines, and reads those that are JSON objects."""

    def __init__(self, limit_bytes: int = 512 << 20) -> None:
        """A line that is longer than the limit is left out."""
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[tuple[bytes, dict[str, Any] | None]]:
        """Take the next bytes, and return the lines that are complete now, without empty ones.

        With each comes the object that it is, or None if it is something else.
        """
        found = []
        *parts, rest = data.split(b"\n")
        for part in parts:
            self._buffer += part
            found += self._take()
            self._skipping = False
        self._buffer += rest
        if len(self._buffer) > self._limit_bytes:
            self._buffer.clear()
            self._skipping = True
        return found

    def close(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        """Return the last line if the output ended within it."""
        return self._take()

    def _take(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        line = bytes(self._buffer)
        self._buffer.clear()
        return [(line, _object(line))] if line.strip() and not self._skipping else []


def _object(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        # A line that begins with a brace is an object or nothing.
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found
