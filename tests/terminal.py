"""A pseudo-terminal for tests, which press its keys and wait for what a program prints on it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

# Colours, moves of the cursor, and busybox's question for the cursor's position.
_SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# As much as the kernel keeps readable: N_TTY_BUF_SIZE (drivers/tty/n_tty.c), less one.
_BUFFER_BYTES = 4095


class Terminal:
    """A pseudo-terminal and the program that has it as its controlling terminal.

    `size` is in rows and columns.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        size: tuple[int, int] = (24, 80),
    ) -> None:
        self._master, slave = pty.openpty()
        self._is_open = True
        self._name = os.ttyname(slave)
        self.resize(*size)
        self.seen = b""
        """The output since the last `expect`."""
        self.transcript = ""
        """The output up to the last `expect`, or all of it after `end`."""
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

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def is_full(self) -> bool:
        """Whether output is unread, and a program that writes more has to wait until it is read."""
        unread = struct.unpack("i", fcntl.ioctl(self._master, termios.FIONREAD, bytes(4)))[0]
        other = os.open(self._name, os.O_WRONLY | os.O_NOCTTY)
        try:
            return unread >= _BUFFER_BYTES and not select.select([], [other], [], 0)[1]
        finally:
            os.close(other)

    def expect(self, text: str, seconds: float = 60.0) -> str:
        """Wait for a text in the output; return the output before it, without colours."""
        deadline = time.monotonic() + seconds
        while text.encode() not in (plain := _SEQUENCE.sub(b"", self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"after {seconds:g} s no {text!r} in {plain.decode(errors='replace')}"
            if select.select([self._master], [], [], left)[0]:
                assert self._read(), f"it ended without {text!r}: {plain!r}"
        before, _, after = plain.partition(text.encode())
        self.seen = after
        self.transcript += (before + text.encode()).decode(errors="replace")
        return before.decode(errors="replace")

    def end(self, seconds: float = 60.0) -> int:
        """Wait until the program ends; return its exit status."""
        deadline = time.monotonic() + seconds
        ended = os.pidfd_open(self.process.pid)
        try:
            # The program may still have output, and would wait until it is read.
            while (left := deadline - time.monotonic()) > 0:
                ready = select.select([ended, self._master], [], [], left)[0]
                if self._master not in ready or not self._read():
                    break
        finally:
            os.close(ended)
        status = self.process.wait(max(0.0, deadline - time.monotonic()))
        self.transcript += _SEQUENCE.sub(b"", self.seen).decode(errors="replace")
        return status

    def _read(self) -> bool:
        """Read some output; return whether the program still has the terminal open."""
        try:
            self.seen += os.read(self._master, 1 << 16)
        except OSError:  # EIO
            return False
        return True

    @property
    def mode(self) -> list[object]:
        """The terminal's mode, as of tcgetattr(3)."""
        return termios.tcgetattr(self._master)

    def close(self) -> None:
        """Close the terminal, as by closing its window."""
        os.close(self._master)
        self._is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self._is_open:
            self.close()
