"""An excerpt of a text that may be too long to keep: its beginning and its end."""

__all__ = ["Excerpt"]


class Excerpt:
    """Keeps the first and the last `limit // 2` characters of a text that comes in pieces."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = ""
        self._tail = ""
        self._size = 0

    def append(self, text: str) -> None:
        """Add the next piece of the text."""
        self._size += len(text)
        room = self._half - len(self._head)
        self._head += text[:room]
        # The tail may grow to twice its size before it is cut: to cut it at each piece would copy
        # it each time.
        self._tail += text[room:]
        if len(self._tail) > 2 * self._half:
            self._tail = self._tail[-self._half :]

    def __str__(self) -> str:
        """Return the excerpt, with a line that tells how many characters are left out."""
        tail = self._tail[-self._half :]
        missing = self._size - len(self._head) - len(tail)
        note = f"\n... {missing} characters left out ...\n" if missing else ""
        return f"{self._head}{note}{tail}"
