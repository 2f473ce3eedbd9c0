"""`invoke shell`: a shell, or one command, in a kernel's guest, as if it ran here.

With a terminal on both sides the guest has one too: it has our terminal's type and size, and what
is typed goes there, Ctrl-C included. Without, the command has our standard streams, each for
itself. `shell` returns the command's exit status.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bpfmatrix.cli.console import Report, telling_lines
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.session.guest import enter
from bpfmatrix.session.options import Options
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.shell.forwarding import Input, Output, are_one, raw_terminal
from bpfmatrix.suite import matrix
from bpfmatrix.vm.machine import Machine, MachineEndedError
from bpfmatrix.vm.protocol import (
    GuestError,
    ProtocolError,
    Session,
    hung_up_line,
    interrupt_line,
    resize_line,
)

__all__ = ["SessionEndedError", "shell"]

# What a program in the guest should know of ours: the terminal, the language, whether to colour.
_PASSED_ON = ("TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR")


class SessionEndedError(BpfmatrixError):
    """The machine ended before the command did, whose exit status is then not known."""

    # As ssh has it, so that a script can tell it from what commands usually end with.
    exit_status = 255


def shell(project: Project, id: str, command: Sequence[str], options: Options) -> int:
    """Run a command, or else a shell, on a kernel; return its exit status.

    One word is a line for the guest's shell, several are a program and its arguments. A signal that
    ended it is 128 and its number. BpfmatrixError where the kernel can't be had or booted,
    SessionEndedError where its machine ends before the command does.
    """
    _open_what_is_closed()
    kernel, terminal = project.config.kernel(id), os.isatty(0) and os.isatty(1)
    with _Progress(project, id) as report:
        payload = matrix.built(project, kernel.arch, options, report, tests_needed=False)
        prepared = prepare(project, kernel, payload, options, report)
        session = Session(
            _argv(command, options),
            prepared.payload_id,
            {**_environment(interactive=terminal and not command), **prepared.env},
            prepared.files.commands,
            _size() if terminal else None,
            errors_apart=not are_one(1, 2),
        )
        work = _attend(project, prepared, session, options.cold, report)
        ended = asyncio.run(work)
    if ended.signal is not None:
        return 128 + ended.signal
    return ended.status


def _open_what_is_closed() -> None:
    """Keep the numbers of our standard streams from becoming those of other files."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Progress(Report):
    """Only shows what goes on, and only where that is a terminal: all else is the command's."""

    def __init__(self, project: Project, id: str) -> None:
        super().__init__(project, [id], stderr=True)
        self._github = False  # whose groups are for runs of tests

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Listener. What went wrong with a template is said."""
        self._doing.pop(kernel, None)
        if name == "template":
            super().step(kernel, name, detail, result)


def _argv(command: Sequence[str], options: Options) -> tuple[str, ...]:
    match list(command):
        case []:
            return (os.environ.get("SHELL", "sh") if options.files.is_host else "sh",)
        case [line]:
            return ("sh", "-c", line)
        case words:
            return tuple(words)


def _environment(*, interactive: bool) -> dict[str, str]:
    known = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**known, **({"ENV": "/etc/shrc"} if interactive else {})}


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(1)
    return size.lines, size.columns


@dataclass(frozen=True)
class _Ended:
    """How a session ended: by its command, or by a signal to us."""

    status: int
    signal: int | None = None


async def _attend(
    project: Project, prepared: Prepared, session: Session, cold: bool, report: Report
) -> _Ended:
    with TemporaryDirectory(prefix="bpfmatrix-") as folder:
        console = Path(folder) / "console.log"
        report.doing(prepared.kernel.id, "boot", "waiting for the guest")
        try:
            async with enter(project, prepared, console, cold, report) as entered:
                report.__exit__()  # what goes on is now the command's to show
                if session.size and not session.argv[1:]:
                    image = prepared.image.description
                    print(f"{image}; {entered.start}. `exit` ends it.", file=sys.stderr)
                return await _Attached(entered.guest, session).run()
        except GuestError as error:
            raise BpfmatrixError(f"{prepared.kernel.id}: {error}") from error
        except (MachineEndedError, ProtocolError) as error:
            raise _explained(prepared.kernel.id, error, console) from error


def _explained(id: str, error: Exception, console: Path) -> SessionEndedError:
    lines = []
    with contextlib.suppress(OSError):
        lines = telling_lines(console.read_text(errors="replace"))
    said = "".join(f"\n      {line}" for line in lines)
    kind = f"{error.kind}: " if isinstance(error, MachineEndedError) else ""
    return SessionEndedError(f"{id}: {kind}{error}{said}")


class _Attached:
    """A session that goes on, with the threads of its streams and the signals that we get."""

    def __init__(self, guest: Machine, session: Session) -> None:
        self._guest = guest
        self._session = session
        self._signal: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._interrupted = False

    async def run(self) -> _Ended:
        """Wait until the command ended and all that it wrote is written, or we have to end."""
        guest, ends, terminal = self._guest, self._guest.streams, self._session.size is not None
        hang_up = partial(self._end, signal.SIGHUP) if terminal else None
        outputs = [self._output(1, "output")]
        if self._session.errors_apart:
            outputs.append(self._output(2, "error"))
        with raw_terminal(0) if terminal else contextlib.nullcontext(), self._signals():
            command = asyncio.create_task(guest.run_session(self._session))
            for stream in (*outputs, Input(0, ends["input"], hang_up)):
                stream.start()
            try:
                await self._either(command)
                if not command.done():
                    return _Ended(0, self._signal.result())
                exited = command.result()
                written = asyncio.gather(*(output.done.wait() for output in outputs))
                await self._either(written)
                return _Ended(exited.status)
            finally:
                command.cancel()

    async def _either(self, work: "asyncio.Future[Any]") -> None:
        """Wait for something, or for a signal that ends us."""
        both: list[asyncio.Future[Any]] = [work, self._signal]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    def _output(self, fd: int, name: str) -> Output:
        line = hung_up_line("output" if name == "output" else "error")
        end, boundary = self._guest.streams[name], self._session.boundary
        return Output(fd, end, boundary, partial(self._guest.send, line))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[], object]] = {
            signal.SIGHUP: partial(self._end, signal.SIGHUP),
            signal.SIGTERM: partial(self._end, signal.SIGTERM),
            signal.SIGINT: self._interrupt,
        }
        if self._session.size:
            handlers[signal.SIGWINCH] = self._resize
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _end(self, number: int) -> None:
        if not self._signal.done():
            self._signal.set_result(number)

    def _interrupt(self) -> None:
        # As here: the command may do something about it. For one that does not, a second time.
        if self._interrupted:
            self._end(signal.SIGINT)
        self._interrupted = True
        self._guest.send(interrupt_line("INT"))

    def _resize(self) -> None:
        with contextlib.suppress(OSError):  # it hung up
            self._guest.send(resize_line(*_size()))
