"""The test runner that a client belongs to, such as go, cargo, ctest or make.

All clients of one runner have the same keeper, which ends with the runner.

The client imports this module, so it imports little.
"""

import os
from typing import NamedTuple

__all__ = ["Runner", "runner_of_this_process"]

# A runner may start a script, and the script a client. The script is not the runner.
_WRAPPERS = {"ash", "bash", "busybox", "dash", "env", "ksh", "nice", "sh", "sudo", "time"}
_WRAPPERS |= {"timeout", "zsh"}


class Runner(NamedTuple):
    """A process, named so that no later process has the same name."""

    pid: int
    started: str
    """When it was started, in ticks since the boot of the host."""

    @property
    def is_this_process(self) -> bool:
        """Whether it is the client itself: then nobody else will call its keeper."""
        return self.pid == os.getpid()


class _Process(NamedTuple):
    pid: int
    name: str
    parent: int
    group: int
    started: str


def runner_of_this_process() -> Runner:
    """Return the runner that started this process, through scripts or not.

    It is this process itself if a person started it at an interactive shell.
    """
    own = _process(os.getpid())
    found = _process(own.parent)
    while found.name in _WRAPPERS and found.parent:
        above = _process(found.parent)
        # An interactive shell gives each of its jobs a process group. What it has started is not
        # its own work.
        if above.group != found.group:
            break
        found = above
    if found.name in _WRAPPERS and found.group != own.group:
        found = own
    return Runner(found.pid, found.started)


def _process(pid: int) -> _Process:
    """Return what /proc/PID/stat says (proc_pid_stat(5)); this process itself if it has ended."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        text = _read("/proc/self/stat")
    # The name is in parentheses, and may have any character.
    before, _, after = text.rpartition(")")
    number, _, name = before.partition(" (")
    fields = after.split()
    return _Process(int(number), name, int(fields[1]), int(fields[2]), fields[19])


def _read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read()
