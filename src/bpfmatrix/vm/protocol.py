"""The protocol between host and guest, as data: nothing here needs a socket or a process.

The guest's side is `guest/init`. On the port `bpfmatrix.control` the guest says `ready RELEASE`,
and `pvpanic` if the kernel reports its panics to QEMU.
The host then writes lines that the guest's shell evaluates, each with quoted words; the guest
answers `started ID`, `exited ID BOUNDARY key=value...`, `left ID BOUNDARY TEXT` and `done SECRET`.
The port `bpfmatrix.output` carries the outputs of the tests, one after another. Each ends with the
boundary that the host gave with the test. If a test was to write a report of itself, that comes
behind its output, and ends with a boundary of its own. A verdict only ever comes from an `exited`
line; nothing on another port can be one.

Boundaries and secrets are 128 random bits, and no test knows them. Tests may be root, so they can
write to the control port too. `Referee` therefore accepts a line that decides something only in its
place, and only with the secret that the host gave for it: whoever else writes to the port makes the
run `lost`. A job is a single line, so init has read all of it before the first test starts, and
whoever reads from the port finds nothing there.

Instead of tests, a machine can be given a `Session`: one command that is connected to the host's
own streams or terminal. Its output comes on `bpfmatrix.output`, and its standard error on
`bpfmatrix.error` if the host has the two apart; each ends with the boundary. It reads what the host
writes to `bpfmatrix.input`. While it runs, the guest takes the lines of `resize_line`,
`interrupt_line` and `hung_up_line`.

If a job of tests asks for core files, those of processes that die by a signal come on
`bpfmatrix.error`: for each a line with the process id, the signal and the name of the process, then
the content of the file, and a boundary.
"""

import resource
import secrets
import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "REPORTS_FOLDER",
    "UNLIMITED_MEMLOCK",
    "CorePart",
    "CoreSplitter",
    "Done",
    "Event",
    "Exited",
    "GuestError",
    "Job",
    "Left",
    "Output",
    "OutputSplitter",
    "ProtocolError",
    "Ready",
    "Referee",
    "Report",
    "Session",
    "Start",
    "Started",
    "TestCommand",
    "hung_up_line",
    "interrupt_line",
    "long_text",
    "new_boundary",
    "parse",
    "resize_line",
    "resume_line",
    "setup_line",
]

UNLIMITED_MEMLOCK = ((resource.RLIMIT_MEMLOCK, -1),)
"""For a `Start`. Before Linux 5.11, the memory of eBPF maps and programs counts as locked."""

REPORTS_FOLDER = "/run/reports"
"""The folder in which tests find room for the reports that they write of themselves."""

# Bits of /proc/sys/kernel/tainted (Documentation/admin-guide/tainted-kernels.rst).
_TAINT_DIED = 1 << 7  # "kernel died recently, i.e. there was an OOPS or BUG"
_TAINT_WARNED = 1 << 9  # "kernel issued warning"


def new_boundary() -> bytes:
    """Return 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16).encode()


class ProtocolError(Exception):
    """The guest sent something that does not belong to the protocol."""


class GuestError(ProtocolError):
    """The guest's init could not do what the host told it to; the message says why."""


@dataclass(frozen=True)
class Start:
    """How the guest starts a command (guest/c/start-test.c)."""

    folder: str = "/payload"
    """The working directory; / if there is no such folder."""
    binds: tuple[tuple[str, str], ...] = ()
    """What the guest's init has, and the command has at another path: the path for init, and the
    path for the command."""
    user: str = ""
    """A user's name or number; root if it is empty."""
    capabilities: int | None = None
    """The mask of the capabilities that are kept; None for all that the user has."""
    limits: tuple[tuple[int, int], ...] = ()
    """Resource limits: the number of the resource (`resource.RLIMIT_*`), and the value in the
    units of setrlimit(2), or -1 for none."""
    token: bool = False
    """Whether the command is in a user namespace whose bpffs delegates all of bpf(2)."""
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables of this command, over those of the job and of the user."""

    def words(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return the words of `start-test` for a command."""
        words = [word for bind in self.binds for word in ("bind", *bind)]
        words += ["folder", self.folder]
        for number, value in self.limits:
            words += ["limit", str(number), str(value)]
        if self.capabilities is not None:
            words += ["capabilities", f"{self.capabilities:x}"]
        if self.user:
            words += ["user", self.user]
        if self.token:
            words.append("token")
        for variable, text in self.env:
            words += ["env", f"{variable}={text}"]
        return (*words, "--", *argv)


@dataclass(frozen=True)
class TestCommand:
    """One test: an executable with its arguments, how it is started, and its time limit."""

    __test__ = False  # pytest would collect it, because of its name

    id: int
    argv: tuple[str, ...]
    limit_seconds: float
    boundary: bytes = field(default_factory=new_boundary)
    start: Start = Start()
    report: str = ""
    """The name of the file in `REPORTS_FOLDER` that it writes as a report; none if it is empty."""
    report_boundary: bytes = field(default_factory=new_boundary)


@dataclass(frozen=True)
class Job:
    """The tests that one machine is given to run, and how."""

    tests: tuple[TestCommand, ...]
    payload_id: str
    """The content of the payload's file `.id`, which the guest compares."""
    env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[tuple[str, ...], ...] = ()
    """Functions of the guest's init to call before the tests, with their arguments."""
    core_boundary: bytes | None = None
    """The boundary after each core file; None if core files are not kept."""
    secret: bytes = field(default_factory=new_boundary)
    """What init says with its last word."""

    def line(self) -> str:
        """Return the line for the control port, without a line break."""
        return f"{self.setup_line()}; {self.tests_line()}"

    def setup_line(self) -> str:
        """Return the first part of the job: what comes before the tests."""
        return "; ".join(_setup(self.payload_id, self.setup))

    def tests_line(self) -> str:
        """Return the rest of the job. Like the whole, it is read before the first test starts."""
        return "; ".join(self._calls())

    def _calls(self) -> Iterator[str]:
        yield from _environment(self.env)
        if self.core_boundary:
            yield _quoted(["cores", self.core_boundary.decode()])
        if any(test.report for test in self.tests):
            yield "reports"
        if len(self.tests) > 1:
            yield "note"
        for test in self.tests:
            after = "compare" if test is self.tests[-1] else "undo"
            limit = _seconds(test.limit_seconds)
            words = ["run", str(test.id), limit, test.boundary.decode(), after]
            yield _quoted([*words, *test.start.words(test.argv)])
            if test.report:
                yield _quoted(["send_report", test.report, test.report_boundary.decode()])
        yield _quoted(["finish", self.secret.decode()])


@dataclass(frozen=True)
class Session:
    """A command that is connected to the host's streams or terminal."""

    argv: tuple[str, ...]
    payload_id: str | None
    """As of a job; None if the guest was set up by `setup_line`."""
    env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[tuple[str, ...], ...] = ()
    """Functions of the guest's init to call before the command, with their arguments."""
    size: tuple[int, int] | None = None
    """The rows and columns of the terminal; None if the command has pipes."""
    errors_apart: bool = False
    """Whether its standard error has a port of its own, or goes where its output goes."""
    boundary: bytes = field(default_factory=new_boundary)
    start: Start = Start()

    def line(self) -> str:
        """Return the line for the control port, without a line break."""
        size = "{} {}".format(*self.size) if self.size else ""
        errors = "apart" if self.errors_apart else "joined"
        words = self.start.words(self.argv)
        session = _quoted(["session", self.boundary.decode(), size, errors, *words])
        setup = () if self.payload_id is None else _setup(self.payload_id, self.setup)
        return "; ".join((*setup, *_environment(self.env), session))


def long_text(line: str) -> bytes:
    """Return what makes the guest evaluate a long line at once, and not read it byte by byte.

    Under emulation, a byte takes 0.1 ms.
    """
    text = line.encode(errors="surrogateescape")
    return b"long %d\n%b" % (len(text), text)


def setup_line(setup: Iterable[Sequence[str]]) -> str:
    """Return the line that sets up a guest ahead of a session that needs no payload."""
    return "; ".join(_setup(None, setup))


def _setup(payload_id: str | None, setup: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "refreshed" if payload_id is None else _quoted(["payload", payload_id])
    for call in setup:
        yield _quoted(call)


def _environment(env: Mapping[str, str]) -> Iterator[str]:
    if env:
        # The guest calls this function in the process of the test, so that the variables do not
        # overwrite those that its init needs.
        variables = _quoted([f"{name}={value}" for name, value in env.items()])
        yield f"environment() {{ export {variables}; }}"


def resize_line(rows: int, columns: int) -> str:
    """Return the line that changes the size of a session's terminal."""
    return f"resize {rows} {columns}"


def interrupt_line(signal_name: str) -> str:
    """Return the line that sends a signal, such as `INT`, to the command of a session and its
    children.
    """
    return f"interrupt {signal_name}"


def hung_up_line(stream: Literal["output", "error"]) -> str:
    """Return the line that tells a session's command that nobody reads this stream any more."""
    return f"hung_up {stream}"


def resume_line(now: float, host_name: str) -> str:
    """Return the line that resumes a restored guest: the time (Unix), a host name, and entropy."""
    return _quoted(["resume", f"{now:.0f}", host_name, secrets.token_hex(64)])


def _quoted(words: Sequence[str]) -> str:
    # The guest reads its lines one by one, and has a variable for a line break within a word.
    return shlex.join(words).replace("\n", "'\"$NL\"'")


def _seconds(limit: float) -> str:
    # The `read -t` of busybox takes digits and a point, but no exponent, and no more than 2^21.
    return f"{min(max(limit, 0.001), 2e6):.3f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Ready:
    """The guest is up. `release` is what `uname -r` prints there."""

    release: str
    reports_panics: bool = False
    """Whether its kernel has the driver of QEMU's pvpanic device."""


@dataclass(frozen=True)
class Started:
    """A test was started."""

    id: int


@dataclass(frozen=True)
class Output:
    """Some bytes that a test printed to standard output or standard error, in their order."""

    id: int
    data: bytes


@dataclass(frozen=True)
class Report:
    """A part of the report that a test wrote of itself. It comes after all of the output."""

    id: int
    data: bytes


@dataclass(frozen=True)
class Exited:
    """A test ended. All of its output, and its report, came before this event."""

    id: int
    status: int
    """The exit status; 128 plus the number of the signal that killed it, as in a shell."""
    limit: bool = False
    """Whether it was ended because of its time limit."""
    oom_kills: int = 0
    """How many processes the kernel's OOM killer killed while it ran."""
    oops: bool = False
    """Whether the kernel had an oops, in this test or in an earlier one."""
    warned: bool = False
    """Whether the kernel was tainted by a warning (WARN) while it ran, and was not before."""
    full: str = ""
    """The mount point of a file system of the guest that was full when the test failed, or `""`."""
    core_files: int = 0
    """How many core files the machine has sent so far; they came before this event."""
    secret: bytes = field(default=b"", compare=False, repr=False)
    """What only init knows: the boundary of the test."""

    @property
    def reason(self) -> str:
        """How it ended, in a few words."""
        if self.oom_kills:
            return "killed by the kernel: the guest's memory was full"
        if self.status > 128:
            number = self.status - 128
            try:
                return f"killed by {signal.Signals(number).name}"
            except ValueError:
                return f"exit status {self.status}"
        also = f"; {self.full} of the guest was full" if self.full else ""
        # A shell exits with these if it can't run a command. The output tells whether that was
        # the executable itself or a command of the script.
        known = {126: ": it, or a command of it, can't be run", 127: ": a command was not found"}
        return f"exit status {self.status}{known.get(self.status, '')}{also}"


@dataclass(frozen=True)
class Left:
    """Something that a test has left behind in the guest, and that could not be removed."""

    id: int
    what: str
    secret: bytes = field(default=b"", compare=False, repr=False)
    """What only init knows: the boundary of the test."""


@dataclass(frozen=True)
class Done:
    """The guest has finished its job."""

    secret: bytes = field(default=b"", compare=False, repr=False)
    """What only init knows: the secret of the job."""


@dataclass(frozen=True)
class CorePart:
    """A part of the core file of a process that died by a signal."""

    pid: int
    signal: int
    name: str
    """The process's name (`comm`): the first 15 bytes of its executable's name."""
    data: bytes
    last: bool = False


Event = Ready | Started | Output | Report | CorePart | Exited | Left | Done


def parse(line: str) -> Event:
    """Read a line of the control port.

    ProtocolError if it is not a line of the protocol, GuestError if it reports a failure.
    """
    try:
        match line.split():
            case ["ready", release]:
                return Ready(release)
            case ["ready", release, "pvpanic"]:
                return Ready(release, reports_panics=True)
            case ["started", id]:
                return Started(int(id))
            case ["exited", id, secret, *pairs]:
                values = dict(pair.split("=", 1) for pair in pairs)
                taint, before = int(values["tainted"]), int(values["before"])
                return Exited(
                    int(id),
                    status=int(values["status"]),
                    limit=values["limit"] == "yes",
                    oom_kills=int(values["oom_kills"]),
                    oops=bool(taint & _TAINT_DIED),
                    warned=bool(taint & ~before & _TAINT_WARNED),
                    full=values["full"],
                    core_files=int(values.get("cores", "0")),
                    secret=secret.encode(),
                )
            case ["left", id, secret, *what]:
                return Left(int(id), " ".join(what), secret.encode())
            case ["done", secret]:
                return Done(secret.encode())
            case ["wrong", *what]:
                raise ProtocolError(" ".join(what))
            case ["unable", *what]:
                raise GuestError(" ".join(what))
    except (ValueError, KeyError):
        pass
    raise ProtocolError(f"the guest's init said {line[:200]!r}")


class Referee:
    """Checks that the events of a job come from init: in their order, and with their secrets."""

    def __init__(self, job: Job) -> None:
        self._waiting = list(job.tests)
        self._running: TestCommand | None = None
        self._ended: TestCommand | None = None
        self._secret = job.secret

    def check(self, event: Event) -> None:
        """Take the next event of the control port; ProtocolError if init can't have said it."""
        match event:
            case Started(id=id) if self._running is None and self._next == id:
                self._running = self._waiting.pop(0)
            case Exited(id=id, secret=secret) if self._is(self._running, id, secret):
                self._running, self._ended = None, self._running
            case Left(id=id, secret=secret) if self._is(self._running or self._ended, id, secret):
                pass
            case Done(secret=secret) if not (self._waiting or self._running):
                if not secrets.compare_digest(secret, self._secret):
                    raise self._forged(event)
            case _:
                raise self._forged(event)

    @property
    def _next(self) -> int | None:
        return self._waiting[0].id if self._waiting else None

    @staticmethod
    def _is(test: TestCommand | None, id: int, secret: bytes) -> bool:
        if test is None or test.id != id:
            return False
        return secrets.compare_digest(secret, test.boundary)

    def _forged(self, event: Event) -> ProtocolError:
        return ProtocolError(
            f"a process other than the guest's init wrote to the control port: {event}"
        )


class OutputSplitter:
    """Splits the stream of the output port: for each test of the job, in order, its output and its
    report.
    """

    def __init__(self, tests: Sequence[TestCommand]) -> None:
        self._waiting: list[tuple[type[Output | Report], int, bytes, bool]] = []
        for test in tests:
            self._waiting.append((Output, test.id, test.boundary, not test.report))
            if test.report:
                self._waiting.append((Report, test.id, test.report_boundary, True))
        self._held = b""

    def feed(self, data: bytes) -> list[tuple[Output | Report, bool]]:
        """Take the next bytes; return parts, and whether each is the last one of its test.

        Bytes that may be the beginning of a boundary are held back until the next call.
        """
        self._held += data
        found: list[tuple[Output | Report, bool]] = []
        while self._waiting:
            kind, id, end, is_last = self._waiting[0]
            before, boundary, after = self._held.partition(end)
            if boundary:
                found.append((kind(id, before), is_last))
                self._waiting.pop(0)
                self._held = after
                continue
            keep = _overlap(self._held, end)
            ready = self._held[: len(self._held) - keep]
            if ready:
                found.append((kind(id, ready), False))
                self._held = self._held[len(ready) :]
            break
        return found


class CoreSplitter:
    """Splits the stream of core files: each is a line of words, the content, and the boundary."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary = boundary
        self._held = b""
        self._header: tuple[int, int, str] | None = None

    def feed(self, data: bytes) -> list[CorePart]:
        """Take the next bytes, and return the parts; ProtocolError if a first line is not valid."""
        self._held += data
        found: list[CorePart] = []
        while True:
            if self._header is None:
                line, end, rest = self._held.partition(b"\n")
                if not end:
                    return found
                self._header, self._held = _core_header(line), rest
            content, last, rest = self._held.partition(self._boundary)
            if not last:
                keep = _overlap(content, self._boundary)
                content, rest = content[: len(content) - keep], content[len(content) - keep :]
            if content or last:
                found.append(CorePart(*self._header, content, bool(last)))
            self._held = rest
            if not last:
                return found
            self._header = None


def _core_header(line: bytes) -> tuple[int, int, str]:
    try:
        pid, signal_number, name = line.decode(errors="replace").split(" ", 2)
        return int(pid), int(signal_number), name
    except ValueError:
        raise ProtocolError(f"a core file began with {line[:200]!r}") from None


def _overlap(data: bytes, boundary: bytes) -> int:
    """Return how many bytes at the end of `data` may be the beginning of `boundary`."""
    for length in range(min(len(data), len(boundary) - 1), 0, -1):
        if data.endswith(boundary[:length]):
            return length
    return 0
