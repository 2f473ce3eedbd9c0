"""What host and guest say to each other, as data: no socket and no process in here.

The other side is `guest/init`. On the port `bpfmatrix.control` the guest says `ready RELEASE`, then
takes lines that are words quoted for its shell, and answers `started ID`, `exited ID key=value...`
and `done`. On the port `bpfmatrix.output` come the tests' outputs, one after another, each closed
by the boundary that the host gave with the test: 128 random bits, which no test knows. A verdict is
what `exited` says; nothing on the other port can be one.

In place of tests, a machine can be given one command with the host's own streams or terminal, a
`Session`: its output comes on `bpfmatrix.output`, its standard error on `bpfmatrix.error` where the
host has them apart, each closed by the boundary, and what it reads is what the host writes to
`bpfmatrix.input`. While it runs, the guest takes the lines of `resize_line`, `interrupt_line` and
`hung_up_line`.

With tests, `bpfmatrix.error` is for the core files of processes that died by a signal, if the job
asks for them: each is a line with its process's id, the signal and the process's name, its content,
and a boundary.
"""

import secrets
import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "CorePart",
    "CoreSplitter",
    "Done",
    "Event",
    "Exited",
    "GuestError",
    "Job",
    "Output",
    "OutputSplitter",
    "ProtocolError",
    "Ready",
    "Session",
    "Started",
    "TestCommand",
    "hung_up_line",
    "interrupt_line",
    "new_boundary",
    "parse",
    "resize_line",
    "resume_line",
]

# Bits of /proc/sys/kernel/tainted (Documentation/admin-guide/tainted-kernels.rst).
_TAINT_DIED = 1 << 7  # "kernel died recently, i.e. there was an OOPS or BUG"


def new_boundary() -> bytes:
    """Return 128 random bits, in letters, which nobody can guess."""
    return secrets.token_hex(16).encode()


class ProtocolError(Exception):
    """The guest said what its init never says."""


class GuestError(ProtocolError):
    """The guest's init could not do what it was told, and says why."""


@dataclass(frozen=True)
class TestCommand:
    """One test: an executable with its arguments, and the limit after which it is ended."""

    __test__ = False  # for pytest, to which the name says that it is one of its own

    id: int
    argv: tuple[str, ...]
    limit_seconds: float
    boundary: bytes = field(default_factory=new_boundary)


@dataclass(frozen=True)
class Job:
    """All that one machine is given to do."""

    tests: tuple[TestCommand, ...]
    payload_id: str
    """What the payload's file `.id` holds, by which the guest knows that it is the right one."""
    env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[tuple[str, ...], ...] = ()
    """Calls of functions of the guest's init, with their arguments, that come before the tests."""
    core_boundary: bytes | None = None
    """Closes each core file on the port `bpfmatrix.error`; with None there are none."""

    def lines(self) -> Iterator[str]:
        """Give the lines for the control port, each without its line break."""
        yield from _preparing(self.payload_id, self.setup, self.env)
        if self.core_boundary:
            yield _quoted(["cores", self.core_boundary.decode()])
        for test in self.tests:
            words = ["run", str(test.id), _seconds(test.limit_seconds), test.boundary.decode()]
            yield _quoted([*words, *test.argv])
        yield "finish"


@dataclass(frozen=True)
class Session:
    """A command that the host is attached to."""

    argv: tuple[str, ...]
    payload_id: str
    env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[tuple[str, ...], ...] = ()
    """Calls of functions of the guest's init, with their arguments, that come before it."""
    size: tuple[int, int] | None = None
    """The rows and columns of a terminal; with None the command has pipes."""
    errors_apart: bool = False
    """Its standard error has a port of its own, and does not go where its output goes."""
    boundary: bytes = field(default_factory=new_boundary)

    def lines(self) -> Iterator[str]:
        """Give the lines for the control port, each without its line break."""
        yield from _preparing(self.payload_id, self.setup, self.env)
        size = "{} {}".format(*self.size) if self.size else ""
        errors = "apart" if self.errors_apart else "joined"
        yield _quoted(["session", self.boundary.decode(), size, errors, *self.argv])


def _preparing(
    payload_id: str, setup: Iterable[Sequence[str]], env: Mapping[str, str]
) -> Iterator[str]:
    yield _quoted(["payload", payload_id])
    for call in setup:
        yield _quoted(call)
    if env:
        # A function, which the guest calls in the test's own process: its init keeps what it
        # needs in variables too.
        variables = _quoted([f"{name}={value}" for name, value in env.items()])
        yield f"environment() {{ export {variables}; }}"


def resize_line(rows: int, columns: int) -> str:
    """Return the line that gives the terminal of a session another size."""
    return f"resize {rows} {columns}"


def interrupt_line(signal_name: Literal["INT", "TERM", "QUIT"]) -> str:
    """Return the line that sends a signal to the command of a session and its children."""
    return f"interrupt {signal_name}"


def hung_up_line(stream: Literal["output", "error"]) -> str:
    """Return the line that tells a session's command that nobody reads a stream any more."""
    return f"hung_up {stream}"


def resume_line(now: float, host_name: str) -> str:
    """Return the line for a guest that was restored: the time (seconds since 1970) and its name."""
    return _quoted(["resume", f"{now:.0f}", host_name, secrets.token_hex(64)])


def _quoted(words: Sequence[str]) -> str:
    # The guest reads line by line; it has a variable for a line break within a word.
    return shlex.join(words).replace("\n", "'\"$NL\"'")


def _seconds(limit: float) -> str:
    # busybox's sleep reads digits and a point, and no exponent.
    return f"{max(limit, 0.001):.3f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Ready:
    """The guest is up. `release` is what its kernel calls itself."""

    release: str


@dataclass(frozen=True)
class Started:
    """A test was started."""

    id: int


@dataclass(frozen=True)
class Output:
    """Some bytes that a test printed, standard output and error as they came."""

    id: int
    data: bytes


@dataclass(frozen=True)
class Exited:
    """A test ended; all of its output came before this."""

    id: int
    status: int
    """The exit status, or 128 and a signal's number, as a shell has it."""
    limit: bool = False
    """It ran into its limit and was ended."""
    oom_kills: int = 0
    """Processes that the kernel killed for want of memory while it ran."""
    oops: bool = False
    """The kernel had an oops, in this test or in one before it."""
    full: str = ""
    """A file system of the guest that had no space left when it failed."""
    cores: int = 0
    """Core files so far, in all, which came before this."""

    @property
    def reason(self) -> str:
        """Say how it ended, in a few words."""
        if self.oom_kills:
            return "killed by the kernel: the guest's memory was full"
        if self.status > 128:
            number = self.status - 128
            try:
                return f"killed by {signal.Signals(number).name}"
            except ValueError:
                return f"exit status {self.status}"
        also = f"; {self.full} of the guest was full" if self.full else ""
        # Of a shell's own statuses; whether it speaks of the executable or of a command that a
        # script calls, its output tells.
        known = {126: ": it, or a command of it, can't be run", 127: ": a command was not found"}
        return f"exit status {self.status}{known.get(self.status, '')}{also}"


@dataclass(frozen=True)
class Done:
    """The guest has done its job."""


@dataclass(frozen=True)
class CorePart:
    """Some bytes of the core file of a process that died by a signal."""

    pid: int
    signal: int
    name: str
    """What the kernel calls the process: the first 15 characters of its executable's name."""
    data: bytes
    last: bool = False


Event = Ready | Started | Output | CorePart | Exited | Done


def parse(line: str) -> Event:
    """Read one line of the control port; ProtocolError if it is not one."""
    try:
        match line.split():
            case ["ready", release]:
                return Ready(release)
            case ["started", id]:
                return Started(int(id))
            case ["exited", id, *pairs]:
                values = dict(pair.split("=", 1) for pair in pairs)
                return Exited(
                    int(id),
                    status=int(values["status"]),
                    limit=values["limit"] == "yes",
                    oom_kills=int(values["oom_kills"]),
                    oops=bool(int(values["tainted"]) & _TAINT_DIED),
                    full=values["full"],
                    cores=int(values.get("cores", "0")),
                )
            case ["done"]:
                return Done()
            case ["wrong", *what]:
                raise ProtocolError(" ".join(what))
            case ["unable", *what]:
                raise GuestError(" ".join(what))
    except (ValueError, KeyError):
        pass
    raise ProtocolError(f"the guest's init said {line[:200]!r}")


class OutputSplitter:
    """Splits the stream of the output port into the outputs of the tests, in their order."""

    def __init__(self, tests: Sequence[TestCommand]) -> None:
        self._waiting = list(tests)
        self._held = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes, bool]]:
        """Take the next bytes; give (test's id, its bytes, whether that was its last) as known.

        What may be the begin of a boundary is held back until the next call.
        """
        self._held += data
        found: list[tuple[int, bytes, bool]] = []
        while self._waiting:
            test = self._waiting[0]
            before, boundary, after = self._held.partition(test.boundary)
            if boundary:
                found.append((test.id, before, True))
                self._waiting.pop(0)
                self._held = after
                continue
            keep = _overlap(self._held, test.boundary)
            ready = self._held[: len(self._held) - keep]
            if ready:
                found.append((test.id, ready, False))
                self._held = self._held[len(ready) :]
            break
        return found


class CoreSplitter:
    """Splits the stream of core files: of each a line of words, its bytes, and the boundary."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary = boundary
        self._held = b""
        self._head: tuple[int, int, str] | None = None

    def feed(self, data: bytes) -> list[CorePart]:
        """Take the next bytes; ProtocolError where a file does not begin as it should."""
        self._held += data
        found: list[CorePart] = []
        while True:
            if self._head is None:
                line, end, rest = self._held.partition(b"\n")
                if not end:
                    return found
                self._head, self._held = _core_head(line), rest
            content, last, rest = self._held.partition(self._boundary)
            if not last:
                keep = _overlap(content, self._boundary)
                content, rest = content[: len(content) - keep], content[len(content) - keep :]
            if content or last:
                found.append(CorePart(*self._head, content, bool(last)))
            self._held = rest
            if not last:
                return found
            self._head = None


def _core_head(line: bytes) -> tuple[int, int, str]:
    try:
        pid, signal_number, name = line.decode(errors="replace").split(" ", 2)
        return int(pid), int(signal_number), name
    except ValueError:
        raise ProtocolError(f"a core file began with {line[:200]!r}") from None


def _overlap(data: bytes, boundary: bytes) -> int:
    """Return how many of the last bytes of `data` are the first of `boundary`."""
    for length in range(min(len(data), len(boundary) - 1), 0, -1):
        if data.endswith(boundary[:length]):
            return length
    return 0
