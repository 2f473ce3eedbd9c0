"""A shell, or one command, in the guest of a kernel: the workload of `shell`.

If our standard input and output are a terminal, the command has a terminal too, of the same type
and size, and gets every key, even Ctrl-C. Otherwise it has our standard streams, each of them
separately. The result is the command's exit status.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.config.settings import merged
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.payload.model import Payload
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.project_payload import project_payload
from bpfmatrix.session.workload import Work, Workload
from bpfmatrix.shell.attached import AttachedCommand, session_error
from bpfmatrix.shell.streams import are_one, raw_terminal
from bpfmatrix.vm.protocol import Session

__all__ = ["ShellWork", "ShellWorkload"]

# The variables of our environment that the command is given: the terminal's type, the language, and
# whether to use colours.
_PASSED_ON = ("TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR")


class ShellWorkload(Workload[int]):
    """A command, or a shell if `command` is empty.

    One word is a line for the guest's shell; several words are a program and its arguments.
    """

    def __init__(
        self,
        project: Project,
        command: Sequence[str],
        options: SessionOptions,
        folder: Path,
        on_ready: Callable[[EnteredGuest, Prepared, bool], None],
    ) -> None:
        """`on_ready` is called before the command gets our streams. Its bool is true for a shell on
        a terminal. The kernel's console is written into `folder`.
        """
        super().__init__(options)
        self._project = project
        self._command = command
        self._folder = folder
        self._on_ready = on_ready

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See Workload. It may have no tests: a shell needs none."""
        return project_payload(self._project, arch, (), self.options, observer, tests_needed=False)

    def work(self, prepared: Prepared, observer: Observer) -> "ShellWork":
        """See Workload."""
        terminal = os.isatty(0) and os.isatty(1)
        declared = self._project.config.payload
        settings = merged(declared, prepared.kernel.profile, self.options.settings)
        session = Session(
            _argv(self._command, self.options),
            prepared.payload_id,
            {**_environment(interactive=terminal and not self._command), **prepared.env},
            prepared.setup,
            _size() if terminal else None,
            errors_apart=not are_one(1, 2),
            start=prepared.start_with(settings),
        )
        return ShellWork(prepared, session, self._folder, self._on_ready)


def _argv(command: Sequence[str], options: SessionOptions) -> tuple[str, ...]:
    match list(command):
        case []:
            return (_shell(options),)
        case [line]:
            return ("sh", "-c", line)
        case words:
            return tuple(words)


def _shell(options: SessionOptions) -> str:
    files = options.files
    if files.image and files.image.tools:
        return "bash"
    return os.environ.get("SHELL", "sh") if files.is_host else "sh"


def _environment(*, interactive: bool) -> dict[str, str]:
    known = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**known, **({"ENV": "/etc/shrc"} if interactive else {})}


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(1)
    return size.lines, size.columns


class ShellWork(Work[int]):
    """One command in one guest.

    The result is the command's exit status, or 128 plus the number of the signal that ended us.
    SessionEndedError if the machine ended before the command did.
    """

    def __init__(
        self,
        prepared: Prepared,
        session: Session,
        folder: Path,
        on_ready: Callable[[EnteredGuest, Prepared, bool], None],
    ) -> None:
        super().__init__(folder)
        self._prepared = prepared
        self._session = session
        self._on_ready = on_ready
        self._status = 0
        self._error: BpfmatrixError | None = None

    async def attend(self, entered: EnteredGuest) -> None:
        """See Work."""
        session = self._session
        self._on_ready(entered, self._prepared, bool(session.size and not session.argv[1:]))
        command = AttachedCommand(entered.machine, session)
        terminal = session.size is not None
        signals = _Signals(command, terminal=terminal)
        with raw_terminal(0) if terminal else contextlib.nullcontext(), signals.handled():
            self._status = await command.run()

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """See Work."""
        self._error = session_error(self._prepared.kernel.id, outcome, reason, self.console)

    def result(self, session: GuestSession) -> int:
        """See Work."""
        if self._error is not None:
            raise self._error
        return self._status


class _Signals:
    """The handlers of our signals while a command is attached."""

    def __init__(self, command: AttachedCommand, *, terminal: bool) -> None:
        self._command = command
        self._terminal = terminal
        self._interrupted = False

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Pass signals on to the command, or end it because of them."""
        loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[], object]] = {
            signal.SIGHUP: partial(self._command.end, signal.SIGHUP),
            signal.SIGTERM: partial(self._command.end, signal.SIGTERM),
            signal.SIGINT: self._interrupt,
        }
        if self._terminal:
            handlers[signal.SIGWINCH] = self._resize
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        # The command may handle the first one. The second one ends us.
        if self._interrupted:
            self._command.end(signal.SIGINT)
        self._interrupted = True
        self._command.send_signal("INT")

    def _resize(self) -> None:
        with contextlib.suppress(OSError):  # the terminal hung up
            self._command.resize(*_size())
