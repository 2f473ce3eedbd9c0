"""A terminal as a person has it: a pseudo-terminal with a program on its other side."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Colours, the cursor's moves, and busybox's question where the cursor is.
_SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal of some size, and the program that has it as its controlling terminal."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        size: tuple[int, int] = (24, 80),
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(*size)
        self.seen = b""
        """All that was shown since the last `expect`."""
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size; the kernel then sends SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def expect(self, text: str, seconds: float = 30.0) -> str:
        """Wait until this is shown; returns what was shown up to it, without colours."""
        deadline = time.monotonic() + seconds
        while text.encode() not in (plain := _SEQUENCE.sub(b"", self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"after {seconds:g} s no {text!r} in {plain.decode(errors='replace')}"
            if select.select([self._master], [], [], left)[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError:  # EIO: the other side is closed
                    raise AssertionError(f"it ended without {text!r}: {plain!r}") from None
        before, _, after = plain.partition(text.encode())
        self.seen = after
        return before.decode(errors="replace")

    def end(self, seconds: float = 30.0) -> int:
        """Wait until the program ended; returns its exit status."""
        deadline = time.monotonic() + seconds
        # What it still writes has to go somewhere.
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError:
                    break
        return self.process.wait(max(1.0, deadline - time.monotonic()))

    @property
    def mode(self) -> list[object]:
        """What tcgetattr(3) tells of it."""
        return termios.tcgetattr(self._master)

    def close(self) -> None:
        """Close the window."""
        os.close(self._master)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
