"""Waiting for processes that are not ours to wait for."""

import os
import select


class Watched:
    """A process, which need not be a child, from now until it ends."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def ends_within(self, seconds: float) -> bool:
        """Wait until it ends, by itself or as a zombie; returns whether it did."""
        try:
            ready, _, _ = select.select([self._descriptor], [], [], seconds)
            return bool(ready)
        finally:
            os.close(self._descriptor)
