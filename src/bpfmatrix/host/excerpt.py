"""A text of any length, of which the begin and the end are kept."""

__all__ = ["Clip"]


class Clip:
    """Takes a text in pieces; `str()` gives its first and last half of `limit` characters."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = ""
        self._tail = ""
        self._size = 0

    def append(self, text: str) -> None:
        """Take the next piece."""
        self._size += len(text)
        room = self._half - len(self._head)
        self._head += text[:room]
        # Cut only once in a while: cutting for each line would copy the tail each time.
        self._tail += text[room:]
        if len(self._tail) > 2 * self._half:
            self._tail = self._tail[-self._half :]

    def __str__(self) -> str:
        """Return what is kept, with a note of how much is not."""
        tail = self._tail[-self._half :]
        missing = self._size - len(self._head) - len(tail)
        note = f"\n... {missing} characters left out ...\n" if missing else ""
        return f"{self._head}{note}{tail}"
