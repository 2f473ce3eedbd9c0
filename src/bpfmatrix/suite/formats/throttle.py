"""A limit to how much output test2json is given between two lines of the testing package."""

import re

__all__ = ["Throttle"]

# test2json makes 150 bytes of JSON from a line of two bytes.
_THROTTLED_BYTES = 256 << 10
# The testing package begins its own lines with this byte (Go's cmd/test2json, since 1.20).
_MARK = re.compile(rb"(?=\x16)")


class Throttle:
    """Passes the lines of the testing package, and a limited part of the output between them."""

    def __init__(self) -> None:
        self._passed = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and return those that pass."""
        passing = []
        for piece in _MARK.split(data):
            if piece.startswith(b"\x16"):
                self._passed = 0
            room = _THROTTLED_BYTES - self._passed
            self._passed += len(piece)
            if room > 0:
                passing.append(piece[:room])
                if len(piece) > room:
                    passing.append(b"\n... cut here, the log has the rest ...\n")
        return b"".join(passing)
