"""A machine that waits for gdb: restored from a template, or booted.

A restored guest only waits with its tests, and gets ready for them while gdb reads its symbols. A
kernel that boots waits before its first instruction, so that gdb can stop it while it boots. The
template is one of its own, because of `nokaslr`.
"""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.debug.stub_socket import StubSocket
from bpfmatrix.session.guest_session import EnteredGuest
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm import launch, template
from bpfmatrix.vm.machine import MachineEndedError
from bpfmatrix.vm.protocol import ProtocolError

__all__ = ["HeldMachine", "at_fixed_addresses", "why_cold"]


def at_fixed_addresses(prepared: Prepared) -> Prepared:
    """Return the same kernel with KASLR off, so that its addresses are those of its symbols."""
    spec = prepared.spec
    # gdb is stopped at a panic itself, so QEMU must not pause the guest there for a dump.
    fixed = dataclasses.replace(spec, kernel_args=(*spec.kernel_args, "nokaslr"), dump=False)
    return dataclasses.replace(prepared, spec=fixed)


def why_cold(asked: bool, initial: Sequence[str], spec: launch.MachineSpec) -> str:
    """Return why a machine has to be booted, or `""` if it can be restored from a template.

    `asked` says that the user wants a boot. `initial` are the breakpoints that are only reached
    while the kernel boots.
    """
    if asked:
        return "--cold"
    if initial:
        one = len(initial) == 1
        return f"{', '.join(initial)} {'runs' if one else 'run'} only while the kernel boots"
    if spec.slots < len(spec.folders):
        return "a restored machine has no place for the folders of the host"
    return template.obstacle(spec)


@dataclasses.dataclass(frozen=True)
class HeldMachine:
    """How the machine of a session is started."""

    project: Project
    prepared: Prepared
    why_cold: str
    """Why it is booted; empty if it is restored."""
    observer: Observer

    @contextlib.asynccontextmanager
    async def waiting(self, stub: StubSocket, console: Path) -> AsyncIterator[EnteredGuest]:
        """Give a machine that waits until gdb continues it, and end it when the context is left.

        If its template can't be made or restored, it is booted, and the observer is told why.
        `Machine.wait_until_ready` must be called before the guest gets its job.
        """
        async with contextlib.AsyncExitStack() as stack:
            entered = None if self.why_cold else await self._restored(stack, stub, console)
            if entered is None:
                if self.why_cold:
                    self._say("cold", self.why_cold)
                console.unlink(missing_ok=True)
                spec = self.prepared.spec
                machine = launch.debugged(spec, console, stub.socket)
                entered = EnteredGuest(await stack.enter_async_context(machine), "cold", console)
            yield entered

    async def _restored(
        self, stack: contextlib.AsyncExitStack, stub: StubSocket, console: Path
    ) -> EnteredGuest | None:
        prepared, cache = self.prepared, self.project.cache
        self.observer.doing(prepared.kernel.id, "boot", "waiting for the guest")
        try:
            saved, made = await template.get(
                prepared.spec, cache, prepared.image.label, console, self._say_discarded
            )
        except (template.TemplateError, MachineEndedError, ProtocolError) as error:
            self._say("cold", f"no template can be made: {error}")
            return None
        machine = template.held(saved, prepared.spec, console, prepared.host_name, stub.socket)
        try:
            guest = await stack.enter_async_context(machine)
        except launch.RestoreError as error:
            template.discard(saved, cache)
            self._say("cold", f"the template was discarded: {error}")
            return None
        start = "warm, template made" if made else "warm template"
        self._say(start, "", waits="before its tests")
        return EnteredGuest(guest, start, console)

    def _say_discarded(self, text: str, fraction: float | None = None) -> None:
        id = self.prepared.kernel.id
        self.observer.step(id, "template", f"discarded: {text}", "made again")

    def _say(self, start: str, why: str, waits: str = "before its first instruction") -> None:
        detail = f"{start} ({why})" if why else start
        self.observer.step(self.prepared.kernel.id, "boot", f"{detail}, waits {waits}", "")
