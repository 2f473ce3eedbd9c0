"""How many machines run at once, and which of them start first."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from bpfmatrix.results import files
from bpfmatrix.session.preparation import Prepared

__all__ = ["machines_at_once", "machines_in_memory", "start_order"]

_MEMINFO = Path("/proc/meminfo")
# The memory of QEMU itself, in addition to the guest's: 65 to 100 MB were measured.
_QEMU_BYTES = 100 << 20


def machines_at_once(prepared: Sequence[Prepared]) -> int:
    """Return how many of these machines this host can run side by side, at least one.

    That is one for each core, since under emulation more machines only slow each other down, until
    they reach their time limits. It is fewer if the host's memory is not enough for guests that use
    all of theirs.
    """
    return min(len(os.sched_getaffinity(0)), machines_in_memory(prepared))


def machines_in_memory(prepared: Sequence[Prepared]) -> int:
    """Return how many of these machines the host's memory is enough for, at least one."""
    largest = max((p.spec.memory_bytes for p in prepared), default=0) + _QEMU_BYTES
    return max(1, _available_bytes() // largest)


def _available_bytes() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in _MEMINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) << 10
    return 1 << 62


def start_order(folder: Path, prepared: Prepared) -> float:
    """Return a sort key by which the machines that took longest last time start first.

    `folder` has the results of the workload. Otherwise a slow machine might start when all others
    are done. Machines without an earlier result come before all others.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return -files.earlier_seconds(folder / f"{prepared.kernel.id}.json")
    return float("-inf")
