"""What a run may leave behind on the host: processes, sockets, locks, mounts, files.

All processes of a run have a variable in their environment, by which `processes` finds them.
`adopt_orphans` makes this process the parent of those whose parents have died, so that one that
lost the variable is found at the end.
"""

import contextlib
import ctypes
import os
import stat
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "VARIABLE",
    "Children",
    "Process",
    "adopt_orphans",
    "files_below",
    "held_locks",
    "listening",
    "mounts_below",
    "processes",
]

VARIABLE = "BPFMATRIX_SOAK"
"""The variable of the environment that names the run to which a process belongs."""

_PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
_TCP_LISTEN = "0A"  # include/net/tcp_states.h


@dataclass(frozen=True)
class Process:
    """A process: its id, its name, and its state as in /proc/<pid>/stat."""

    pid: int
    name: str
    state: str = ""
    parent: int = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.pid})"


def adopt_orphans() -> None:
    """Let the kernel make this process the parent of its descendants whose parents die."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass
class Children:
    """The commands that this process has started, as opposed to orphans that it has adopted."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _own: set[int] = field(default_factory=set)

    def start(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a command."""
        with self._lock:
            process = subprocess.Popen(command, **options)
            self._own.add(process.pid)
        return process

    def ended(self, process: "subprocess.Popen[bytes]") -> None:
        """Note that a command was waited for."""
        with self._lock:
            self._own.discard(process.pid)

    def orphans(self) -> list[Process]:
        """Return the adopted processes that still run. Those that have ended are waited for."""
        found = []
        with self._lock:
            for process in _all():
                if process.parent != os.getpid() or process.pid in self._own:
                    continue
                if process.state == "Z":
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(process.pid, os.WNOHANG)
                else:
                    found.append(process)
        return found


def processes(run: str) -> list[Process]:
    """Return the processes that belong to a run."""
    mark = f"{VARIABLE}={run}".encode()
    found = []
    for process in _all():
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process)
    return found


def _all() -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (folder / "stat").read_text(errors="replace")
            name, _, rest = text.partition("(")[2].rpartition(")")
            state, parent, *_ = rest.split()
            yield Process(int(folder.name), name, state, int(parent))


def listening(those: Iterable[Process]) -> list[str]:
    """Return the TCP sockets on which some of these processes listen."""
    inodes = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _TCP_LISTEN:
                    inodes[f"socket:[{words[9]}]"] = words[1]
    found = []
    for process in those:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if address := inodes.get(str(descriptor.readlink())):
                        found.append(f"{process} listens on {address}")
    return found


def held_locks(root: Path) -> list[str]:
    """Return the files and folders below `root` that a process has locked by flock(2)."""
    locked = set()
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if "FLOCK" in words:
            major, minor, inode = words[-3].split(":")
            locked.add((int(major, 16), int(minor, 16), int(inode)))
    return [
        str(path)
        for path, status in _walk(root)
        if (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino) in locked
    ]


def mounts_below(root: Path) -> list[str]:
    """Return the mounts whose place or source is below `root`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f"{root}/" in line]


def files_below(root: Path) -> list[str]:
    """Return everything below `root`, a socket with its kind."""
    return [
        f"{path.relative_to(root)}{' (a socket)' if stat.S_ISSOCK(status.st_mode) else ''}"
        for path, status in _walk(root)
        if path != root
    ]


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, _, files in os.walk(root):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            with contextlib.suppress(OSError):
                yield path, path.lstat()
