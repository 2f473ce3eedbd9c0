"""The heartbeat: a command in a pipe says now and then what it waits for.

On a terminal the live progress says it. In a pipe a line comes when something is done, and a build,
a boot under emulation or a long test may take minutes. So if nothing was printed for a while, a
line on standard error names what is being done, and since when.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator

__all__ = ["INTERVAL_SECONDS", "Heartbeat", "beating", "clear", "doing", "done", "wrote"]

INTERVAL_SECONDS = 30.0
_SHOWN = 4


class Heartbeat:
    """What is being done, and when something was printed last."""

    def __init__(
        self, interval: float = INTERVAL_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval, self._clock = interval, clock
        self._doing: dict[tuple[Hashable, str], tuple[str, float]] = {}
        self._wrote = clock()

    def doing(self, owner: Hashable, kernel: str, text: str, since: float | None = None) -> None:
        """Note what is being done for a kernel, or for none (""). `since` is as of the clock."""
        began = self._clock() if since is None else since
        self._doing[owner, kernel] = (text, began)

    def done(self, owner: Hashable, kernel: str) -> None:
        """Note that this is done."""
        self._doing.pop((owner, kernel), None)

    def clear(self, owner: Hashable) -> None:
        """Note that all of this owner is done."""
        for key in [key for key in self._doing if key[0] == owner]:
            self.done(*key)

    def wrote(self) -> None:
        """Note that something was printed."""
        self._wrote = self._clock()

    def due(self) -> tuple[str, float]:
        """Return the line to print now, or nothing, and in how many seconds to ask again."""
        left = self._wrote + self._interval - self._clock()
        # What is being done may have begun without a line, long after the last one.
        if left > 0 or not self._doing:
            return "", left if left > 0 else self._interval
        self.wrote()
        now = self._clock()
        parts = [
            f"{f'{kernel} ' if kernel else ''}{' '.join(text.split())}, {now - since:.0f} s"
            for (_, kernel), (text, since) in list(self._doing.items())
        ]
        more = f"; and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        return f"... still: {'; '.join(parts[:_SHOWN])}{more}", self._interval


def beat(heart: Heartbeat, stop: threading.Event, say: Callable[[str], object]) -> None:
    """Say each line when it is due, until `stop` is set."""
    wait = 0.0
    while not stop.wait(wait):
        line, wait = heart.due()
        if line:
            say(line)


_heart = Heartbeat()
doing, done, clear, wrote = _heart.doing, _heart.done, _heart.clear, _heart.wrote


@contextlib.contextmanager
def beating() -> Iterator[None]:
    """Meanwhile, say what is being done, unless a terminal shows it."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        yield
        return
    stop = threading.Event()
    wrote()
    thread = threading.Thread(target=beat, args=(_heart, stop, _say), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _say(line: str) -> None:
    from bpfmatrix.host.text import inert  # noqa: PLC0415 - off the start-up path

    with contextlib.suppress(OSError, ValueError):
        print(inert(line), file=sys.stderr, flush=True)
