"""A command that runs in a guest, attached to streams of the host.

Each stream has a thread. Signals and sizes of a terminal are passed on by whoever runs it.
"""

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels.console_log import telling_lines
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.shell.streams import InputStream, OutputStream
from bpfmatrix.vm.machine import Machine
from bpfmatrix.vm.protocol import Session, hung_up_line, interrupt_line, resize_line

__all__ = ["AttachedCommand", "SessionEndedError", "session_error"]


class SessionEndedError(BpfmatrixError):
    """The machine ended before the command did, so the command's exit status is not known."""

    # That of ssh for a lost connection, which commands rarely use.
    exit_status = 255


def session_error(id: str, outcome: Outcome, reason: str, console: Path) -> BpfmatrixError:
    """Return the error of a session on the kernel `id` that ended before its command did."""
    if outcome is Outcome.ERROR:
        return BpfmatrixError(f"{id}: {reason}")
    lines = []
    with contextlib.suppress(OSError):
        lines = telling_lines(console.read_text(errors="replace"))
    said = "".join(f"\n      {line}" for line in lines)
    return SessionEndedError(f"{id}: {outcome}: {reason}{said}")


class AttachedCommand:
    """A command of a session, with the threads of its streams.

    `descriptors` are those of its standard input, output and error. If the session has a terminal,
    the command ends when the terminal hangs up.
    """

    def __init__(
        self, guest: Machine, session: Session, descriptors: tuple[int, int, int] = (0, 1, 2)
    ) -> None:
        self._guest = guest
        self._session = session
        self._descriptors = descriptors
        self._signal: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """Wait until the command has ended and its output is written, or until `end` is called.

        Return its exit status, or 128 plus the number of the signal that `end` was called with.
        """
        guest, terminal = self._guest, self._session.size is not None
        given, out, errors = self._descriptors
        outputs = [self._output(out, "output")]
        if self._session.errors_apart:
            outputs.append(self._output(errors, "error"))
        hang_up = partial(self.end, 1) if terminal else None
        inputs = InputStream(given, guest.streams["input"], hang_up)
        command = asyncio.create_task(guest.run_session(self._session))
        for stream in (*outputs, inputs):
            stream.start()
        try:
            await self._either(command)
            if not command.done():
                return 128 + self._signal.result()
            exited = command.result()
            written = asyncio.gather(*(output.done.wait() for output in outputs))
            await self._either(written)
            return exited.status
        finally:
            command.cancel()
            inputs.stop()

    async def _either(self, work: "asyncio.Future[Any]") -> None:
        """Wait for `work`, or for a signal that ends us."""
        both: list[asyncio.Future[Any]] = [work, self._signal]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    def _output(self, fd: int, name: str) -> OutputStream:
        line = hung_up_line("output" if name == "output" else "error")
        end, boundary = self._guest.streams[name], self._session.boundary
        return OutputStream(fd, end, boundary, partial(self._guest.send, line))

    def end(self, number: int) -> None:
        """End the session, because of this signal."""
        if not self._signal.done():
            self._signal.set_result(number)

    def send_signal(self, name: str) -> None:
        """Send a signal, such as `INT`, to the command and its children."""
        self._guest.send(interrupt_line(name))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command that its terminal has another size."""
        self._guest.send(resize_line(rows, columns))
