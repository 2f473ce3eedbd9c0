"""The part of a kernel's objects that one guest loads.

Under emulation, two guests with one loader each take less time of the processor than one guest with
two loaders, so guests share the objects of a kernel: `Shares` gives each the next part, the largest
objects first, and smaller parts towards the end, so that all guests end at about the same time.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bpfmatrix.host.text import counted
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code
from bpfmatrix.session.guest_session import EnteredGuest
from bpfmatrix.session.kernel_warnings import WarningCollector
from bpfmatrix.verify.collector import Collector
from bpfmatrix.verify.plan import ObjectGroup
from bpfmatrix.vm.protocol import Exited, Job, Output, Started, TestCommand

__all__ = ["Share", "Shares", "guests_for", "workers_for"]

# Starting a guest takes about as long as loading five objects.
_FEWEST_OBJECTS = 16
_FEWEST_PROGRAMS = 24
_MANY_OBJECTS = 64
# Of bpfload, for an option that can't be right, such as a value of --set.
_EXIT_USAGE = 2

# The outcome and the code of a program that was being loaded when its machine ended.
_ENDED = {
    Outcome.PANIC: (Outcome.PANIC, Code.KERNEL_DIED),
    Outcome.LOST: (Outcome.LOST, Code.KERNEL_DIED),
    Outcome.TIMEOUT: (Outcome.TIMEOUT, Code.TIMEOUT),
    # Nothing is known of it, as if it had not been tried.
    Outcome.INTERRUPTED: (Outcome.INTERRUPTED, Code.NOT_RUN),
}


def guests_for(accelerator: str, kernels: int, objects: int, programs: int) -> int:
    """Return how many guests should share so many objects with so many programs of one kernel.

    `kernels` is how many kernels are verified side by side: they need processors too. With many
    objects, guests of one kernel take over the processors of kernels that are done. Under KVM, one
    guest uses all processors as well as several do.
    """
    if accelerator == "kvm" or programs < _FEWEST_PROGRAMS:
        return 1
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores if objects >= _MANY_OBJECTS else cores // kernels, objects // 4))


def workers_for(accelerator: str, kernels: int, guests: int, cpus: int) -> int:
    """Return how many loaders work side by side in each of so many guests of one kernel.

    Under emulation, a second one costs more time of the processor than it gains, unless a processor
    would have nothing to do.
    """
    busy = guests > 1 or kernels >= len(os.sched_getaffinity(0))
    return 1 if busy and accelerator != "kvm" else cpus


class Shares:
    """The objects of one kernel that no guest has taken yet."""

    def __init__(self, weights: Mapping[str, int], guests: int) -> None:
        """`weights` says how much work each object is, by its place; any unit will do."""
        self._left = sorted(weights.items(), key=lambda item: -item[1])
        self._guests = guests
        # A part of fewer objects is not worth the start of a guest.
        self._fewest = len(weights) // (4 * guests)
        # With few objects, there is one part for each guest, and this counts those that are left.
        self._whole = guests if guests == 1 or self._fewest < _FEWEST_OBJECTS else 0

    def __bool__(self) -> bool:
        return bool(self._left)

    def take(self) -> tuple[str, ...]:
        """Return the places of the next part; all that is left if one guest does all the work."""
        taken = []
        if self._whole:
            # Equal parts, one for each guest: every n-th object, beginning with the largest.
            taken, rest = self._left[:: self._whole], self._left
            self._left = [one for number, one in enumerate(rest) if number % self._whole]
            self._whole -= 1
        else:
            enough = sum(weight for _, weight in self._left) / (2 * self._guests)
            while self._left and (len(taken) < self._fewest or _weight(taken) < enough):
                taken.append(self._left.pop(0))
        return tuple(place for place, _ in taken)


def _weight(taken: Sequence[tuple[str, int]]) -> int:
    return sum(weight for _, weight in taken)


@dataclass
class Share:
    """What one guest loads, and what came of it."""

    places: tuple[str, ...]
    commands: Sequence[tuple[ObjectGroup, TestCommand]]
    collector: Collector
    """Knows just the objects of this share."""
    warnings: WarningCollector
    guest: EnteredGuest
    oops: bool = False
    """Whether the kernel had an oops."""
    cancelled: bool = False
    """Whether the guest was ended because of something outside of it."""
    died: bool = False
    """Whether the guest ended by itself before its job was done."""

    async def run(self, job: Job, doing: Callable[[str], None]) -> None:
        """Give the guest its job, and take in its events; `doing` shows what it does."""
        groups = {command.id: group for group, command in self.commands}
        machine = self.guest.machine
        machine.console.take()  # what the kernel printed while it booted
        try:
            async for event in machine.run(job):
                self._read_console()
                match event:
                    case Started():
                        doing(counted(len(groups[event.id].places), "object"))
                    case Output():
                        self.collector.feed(event.data)
                    case Exited():
                        self.warnings.see_taint(event.warned, "")
                        self._close_loader(groups[event.id], event)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        except BaseException:
            self.died = True
            raise
        finally:
            self._read_console()

    def _read_console(self) -> None:
        self.warnings.feed(self.guest.machine.console.take(), self.collector.loading)

    def _close_loader(self, group: ObjectGroup, exited: Exited) -> None:
        """Take the end of a supervisor: programs of its group without a result get one."""
        collector = self.collector
        collector.close()
        self.oops = self.oops or exited.oops
        messages = collector.take_messages().splitlines()
        outcome = Outcome.TIMEOUT if exited.limit else Outcome.ERROR
        if exited.limit:
            reason = "the loader ran into timeout.run"
        elif exited.status != 0:
            reason = f"the loader ended: {exited.reason}"
        elif collector.ended == 0:
            reason = "the loader ended early, and said nothing"
        else:
            collector.ended = 0
            reason = "the loader reported no result for this program"
        if messages and exited.status != 0:
            reason = f"{reason}: {messages[0]}"
        wrong_words = exited.status == _EXIT_USAGE and not exited.limit
        code = Code.LOAD_FAILED if wrong_words else Code.LOADER_CRASHED
        collector.abandon(outcome, code, reason, group.places)

    def close(self, failure: tuple[Outcome, str] | None) -> None:
        """Take the end of the session, and why it ended early; each program has a result then."""
        self.collector.close()
        if self.oops:
            self.collector.oops()
        if failure is None:
            return
        outcome, reason = failure
        ended = _ENDED.get(outcome, (Outcome.ERROR, Code.NOT_RUN))
        if self.cancelled and outcome not in (Outcome.TIMEOUT, Outcome.INTERRUPTED):
            # Another guest of the same kernel died, and nothing that this one was loading did it.
            ended = (Outcome.ERROR, Code.NOT_RUN)
        self.collector.abandon(*ended, reason)
