"""How many machines run at once, and which of them first."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.results import model
from bpfmatrix.session.preparation import Prepared

__all__ = ["at_once", "slowest_first"]

_MEMINFO = Path("/proc/meminfo")
# What QEMU itself takes beside the guest's memory: seen were 65 to 100 MB.
_QEMU_BYTES = 100 << 20


def at_once(prepared: Sequence[Prepared]) -> int:
    """Return how many of these machines this host can run side by side, at least one.

    One for each core: under emulation more only share what there is, and time-outs come nearer.
    Fewer where memory would not do if each guest used all of its own.
    """
    cores = len(os.sched_getaffinity(0))
    largest = max((p.spec.memory_bytes for p in prepared), default=0) + _QEMU_BYTES
    return max(1, min(cores, _available_bytes() // largest))


def _available_bytes() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in _MEMINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) << 10
    return 1 << 62


def slowest_first(project: Project, prepared: Sequence[Prepared]) -> list[Prepared]:
    """Return the machines in the order to start them: by how long each took last, unknown first.

    Then no slow one begins when all others are done.
    """
    return sorted(prepared, key=lambda p: -_last_seconds(project, p.kernel.id))


def _last_seconds(project: Project, id: str) -> float:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return model.read(project.results / f"{id}.json").seconds
    return float("inf")
