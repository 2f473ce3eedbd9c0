"""The names of a kernel's functions, for a kernel of which there is no vmlinux with DWARF.

The kernel itself has them (`/proc/kallsyms`). `provide` boots it once to read them, and makes a
copy of the kernel's ELF file with these names as its symbol table. With that, gdb can stop at
functions and name those of a call trace; it knows no source, no lines and no variables.
"""

import re
import tempfile
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.debug import symbol_table
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import event_loop
from bpfmatrix.kernels.symbols import Symbols, debug_info
from bpfmatrix.kernels.symbols.elf import Symbol
from bpfmatrix.payload.model import Payload
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.pipeline import run_prepared
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.workload import Work, Workload
from bpfmatrix.vm.protocol import Exited, Output, TestCommand

__all__ = ["parse", "provide"]

_LINE = re.compile(rb"([0-9a-f]+) ([A-Za-z]) (\S+)$", re.MULTILINE)
_LIMIT_SECONDS = 60.0


def provide(project: Project, prepared: Prepared) -> Symbols:
    """Return symbols that are only the names of functions.

    They are kept in the cache. `prepared` has KASLR off. KernelUnavailableError if the kernel has
    no names, or is no ELF file; BpfmatrixError if it can't be booted.
    """
    image, cache = prepared.image, project.cache
    target = debug_info.names_file(cache, image)
    if not target.exists():
        with cache.staging() as staging:
            symbol_table.write(image.boot, _read(project, prepared), staging / "vmlinux")
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / "vmlinux").replace(target)
    return Symbols(target, None, origin="the kernel's own names", has_types=False)


def _read(project: Project, prepared: Prepared) -> list[Symbol]:
    """Return the functions of a kernel that runs at the address that it was linked for."""
    with tempfile.TemporaryDirectory() as folder:
        workload = _KallsymsWorkload(prepared.payload, Path(folder))
        text = event_loop.run(run_prepared(project, prepared, workload, Observer()))
    found = parse(text)
    if not found:
        raise KernelUnavailableError(
            f"{prepared.kernel.id}: its kernel does not say what its functions are called",
            "It was built without CONFIG_KALLSYMS. Name its vmlinux with --vmlinux.",
        )
    return found


class _KallsymsWorkload(Workload[bytes]):
    """Reading /proc/kallsyms in a guest."""

    def __init__(self, payload: Payload, folder: Path) -> None:
        """The guest has `payload`, but uses nothing of it. The console is written to `folder`."""
        super().__init__(SessionOptions())
        self._payload = payload
        self._folder = folder

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See Workload."""
        return self._payload

    def work(self, prepared: Prepared, observer: Observer) -> "_KallsymsWork":
        """See Workload."""
        return _KallsymsWork(prepared, self._folder)


class _KallsymsWork(Work[bytes]):
    """The result is the content of /proc/kallsyms."""

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        super().__init__(folder)
        self._prepared = prepared
        self._text = bytearray()
        self._failure = ""

    async def attend(self, entered: EnteredGuest) -> None:
        """See Work."""
        command = TestCommand(1, ("/bin/cat", "/proc/kallsyms"), _LIMIT_SECONDS)
        async for event in entered.machine.run(self._prepared.job([command])):
            match event:
                case Output(data=data):
                    self._text += data
                case Exited():
                    break

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """See Work."""
        self._failure = reason

    def result(self, session: GuestSession) -> bytes:
        """See Work."""
        if self._failure:
            raise BpfmatrixError(f"the kernel could not be asked for its names: {self._failure}")
        return bytes(self._text)


def parse(kallsyms: bytes) -> list[Symbol]:
    """Return the functions in the text of /proc/kallsyms, without those of modules."""
    return [
        Symbol(name.decode(errors="replace"), int(address, 16), 0)
        # The name of a module's function is followed by that of the module, so it does not match.
        for address, kind, name in _LINE.findall(kallsyms)
        if kind in b"tTwW" and int(address, 16)
    ]
