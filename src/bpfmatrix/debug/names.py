"""The names of a kernel's functions, for a kernel of which there is no vmlinux with DWARF.

The kernel itself has them (`/proc/kallsyms`). `provide` boots it once to read them, and makes a
copy of the kernel's ELF file with these names as its symbol table. With that, gdb can stop at
functions and name those of a call trace; it knows no source, no lines and no variables.
"""

import asyncio
import dataclasses
import re
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
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

__all__ = ["parse", "provide", "write"]

_LINE = re.compile(rb"([0-9a-f]+) ([A-Za-z]) (\S+)$", re.MULTILINE)
_LIMIT_SECONDS = 60.0

# Elf64_Ehdr, Elf64_Shdr and Elf64_Sym (System V ABI, "ELF-64 Object File Format").
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SHT_SYMTAB, _SHT_STRTAB, _SHF_ALLOC = 2, 3, 2
_GLOBAL_FUNCTION = 0x12  # STB_GLOBAL, STT_FUNC


def provide(project: Project, prepared: Prepared) -> Symbols:
    """Return symbols that are only the names of functions.

    They are kept in the cache. KernelUnavailableError if the kernel has no names, or is no ELF
    file; BpfmatrixError if it can't be booted.
    """
    image, cache = prepared.image, project.cache
    target = debug_info.names_file(cache, image)
    if not target.exists():
        with cache.staging() as staging:
            write(image.boot, _read(project, prepared), staging / "vmlinux")
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / "vmlinux").replace(target)
    return Symbols(target, None, origin="the kernel's own names", has_types=False)


def _read(project: Project, prepared: Prepared) -> list[Symbol]:
    """Boot the kernel at the address that it was linked for; return its functions."""
    spec = prepared.spec
    prepared = dataclasses.replace(
        prepared,
        spec=dataclasses.replace(spec, kernel_args=(*spec.kernel_args, "nokaslr")),
        options=dataclasses.replace(prepared.options, cold=True),
    )
    with tempfile.TemporaryDirectory() as folder:
        workload = _KallsymsWorkload(prepared.payload, Path(folder))
        text = asyncio.run(run_prepared(project, prepared, workload, Observer()))
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
        """The guest is given `payload`, of which it uses nothing; `folder` is for the console."""
        super().__init__(SessionOptions(cold=True))
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
    """Return the functions in the text of /proc/kallsyms, but for those of modules."""
    return [
        Symbol(name.decode(errors="replace"), int(address, 16), 0)
        # A module's name in brackets would stand behind them.
        for address, kind, name in _LINE.findall(kallsyms)
        if kind in b"tTwW" and int(address, 16)
    ]


def write(boot: Path, symbols: Iterable[Symbol], target: Path) -> None:
    """Write the ELF file `boot` with these symbols. KernelUnavailableError if it is none."""
    data = bytearray(boot.read_bytes())
    if data[:5] != b"\x7fELF\x02":
        raise KernelUnavailableError(
            f"{boot.name} is no ELF file, to which names could be added",
            "Name the kernel's vmlinux with --vmlinux.",
        )
    header = list(_HEADER.unpack_from(data))
    table, count, names_index = header[6], header[12], header[13]
    sections = [list(_SECTION.unpack_from(data, table + _SECTION.size * n)) for n in range(count)]

    def append(content: bytes) -> tuple[int, int]:
        data.extend(b"\0" * (-len(data) % 8))
        place = len(data)
        data.extend(content)
        return place, len(content)

    strings, entries = bytearray(b"\0"), bytearray(_SYMBOL.size)
    for symbol in sorted(symbols, key=lambda each: each.address):
        index = _section_of(sections, symbol.address)
        if index:
            entries += _SYMBOL.pack(len(strings), _GLOBAL_FUNCTION, 0, index, symbol.address, 0)
            strings += symbol.name.encode() + b"\0"
    old = sections[names_index]
    section_names = bytes(data[old[4] : old[4] + old[5]]) + b".symtab\0.strtab\0"
    first_new = old[5]
    sections[names_index][4:6] = append(section_names)
    where, size = append(bytes(entries))
    # Behind the index of the strings: that of the first symbol that is not local.
    new = [first_new, _SHT_SYMTAB, 0, 0, where, size, count + 1, 1, 8, _SYMBOL.size]
    where, size = append(bytes(strings))
    more = [first_new + len(b".symtab\0"), _SHT_STRTAB, 0, 0, where, size, 0, 0, 1, 0]
    place, _ = append(b"".join(_SECTION.pack(*each) for each in (*sections, new, more)))
    header[6], header[12] = place, count + 2
    _HEADER.pack_into(data, 0, *header)
    target.write_bytes(data)


def _section_of(sections: list[list[int]], address: int) -> int:
    """Return the index of the section that holds an address; 0 if none does."""
    for index, section in enumerate(sections):
        _, _, flags, start, _, size, *_ = section
        if flags & _SHF_ALLOC and start <= address < start + size:
            return index
    return 0
