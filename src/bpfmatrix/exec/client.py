"""The client, which is the process `bpfmatrix exec`: it stands for a command that runs in a guest.

It gives its command line, its environment, its working directory and its standard streams to the
keeper, and passes on the signals that it gets. It ends with the command's exit status.

A test runner starts a client for each test, so this module imports little. If there is no keeper
yet, the client starts one.
"""

import os
import signal
import socket
import sys
import zlib
from collections.abc import Sequence

from bpfmatrix.exec.messages import ACCEPTED, EXIT, Call, replies, user_of
from bpfmatrix.exec.runner import Runner, runner_of_this_process

__all__ = ["FORWARDED", "run"]

FORWARDED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
)
"""The signals that are passed on to the command."""

# A keeper that ends just now may not take a call. Then there is none, and the client starts one.
_ATTEMPTS = 5
_ERROR_BYTES = 1 << 16
_NO_STATUS = 255  # that of ssh for a lost connection, as of `invoke shell`
# What else decides what a keeper does, besides its code.
_VARIABLES = ("BPFMATRIX_CACHE", "HOME", "KERN_DIR", "PATH", "XDG_CACHE_HOME")


def run(words: Sequence[str]) -> int:
    """Run the command of a command line in a guest, and return its exit status."""
    _open_closed_streams()
    runner = runner_of_this_process()
    try:
        folder = _working_directory()
    except OSError as error:
        print(f"error: the working directory can't be used: {error.strerror}", file=sys.stderr)
        return 1
    call = Call(tuple(words), folder, dict(os.environ))
    said = b""
    for _ in range(_ATTEMPTS):
        try:
            connection, errors = _connect(runner)
        except OSError as error:
            print(f"error: no keeper of guests can be reached: {error.strerror}", file=sys.stderr)
            return 1
        with connection:
            status = _converse(connection, call)
        if status is not None:
            return status
        if errors is not None and (said := os.pread(errors, _ERROR_BYTES, 0)):
            break
    print("error: the keeper of the guests could not be started", file=sys.stderr)
    print(said.decode(errors="replace"), end="", file=sys.stderr)
    return 1


def _converse(connection: socket.socket, call: Call) -> int | None:
    """Make a call, and return the exit status; None if the keeper did not take the call."""
    accepted = False
    try:
        call.send(connection)
        for number in FORWARDED:
            # A signal that is ignored here, as under nohup, is ignored by the command too.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: _forward(connection, number))
        for reply in replies(connection):
            if reply.kind == ACCEPTED:
                accepted = True
            elif reply.kind == EXIT:
                return int(reply.text)
            else:
                _print(reply.text)
    except (EOFError, ConnectionError):
        if not accepted:
            return None
    print("error: the keeper of the guests ended before the command did", file=sys.stderr)
    return _NO_STATUS


def _print(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # nobody reads it
        pass


def _forward(connection: socket.socket, number: int) -> None:
    try:
        connection.send(bytes([number]))
    except OSError:  # the keeper is gone, which the main loop notices too
        pass


def _open_closed_streams() -> None:
    """Open the standard streams that are closed, so that no socket gets their numbers."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if fd == 0 else os.O_WRONLY)


def _working_directory() -> str:
    # That of the shell, which may have symbolic links in it, if it is the same folder.
    try:
        logical = os.environ.get("PWD", "")
        if os.path.isabs(logical) and os.path.samefile(logical, "."):
            return logical
    except OSError:
        pass
    return os.getcwd()


def _connect(runner: Runner) -> tuple[socket.socket, int | None]:
    """Return a connection to the runner's keeper; start it if there is none.

    The socket has a name in Linux's abstract namespace (unix(7)), so no file is left behind. Any
    user could take that name first, so the other side must be a process of this user.
    """
    name = _name_of_socket(runner)
    errors = None
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(name)
        except ConnectionRefusedError:
            connection.close()
            errors = _listen(name, runner)
            continue
        if user_of(connection) != os.geteuid():
            raise SystemExit("error: another user has the socket of this user's keeper")
        return connection, errors


def _name_of_socket(runner: Runner) -> str:
    known = (sys.executable, __file__, *(os.environ.get(name, "") for name in _VARIABLES))
    checksum = zlib.crc32("\0".join(known).encode(errors="surrogateescape"))
    return f"\0bpfmatrix-{os.geteuid()}-{runner.pid}-{runner.started}-{checksum:08x}"


def _listen(name: str, runner: Runner) -> int | None:
    """Start a keeper that listens at this name, unless another client was faster.

    Return a descriptor of what the keeper prints, which is only a failure of the keeper itself.
    """
    import errno
    import subprocess

    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(name)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise
        listener.listen(128)
        errors = os.memfd_create("bpfmatrix")
        pidfd = os.pidfd_open(runner.pid)
        fds = (listener.fileno(), pidfd)
        alone = ["--alone"] if runner.is_this_process else []
        subprocess.Popen(
            # -P: the working directory is no place of modules.
            [sys.executable, "-P", "-m", "bpfmatrix.cli.keeper", *map(str, fds), *alone],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=fds,
            cwd="/",
            # A Ctrl-C at the terminal must reach the clients only.
            start_new_session=True,
        )
        os.close(pidfd)
    return errors
