"""The core file of a guest's memory, as QEMU's `dump-guest-memory` writes it, and as gdb reads it.

QEMU writes an ELF core of the physical memory. drgn and crash read that, but gdb knows only virtual
addresses. `for_gdb` walks the kernel's page tables in the core, and gives the file program headers
with the kernel's virtual addresses. What it needs for that is in the note VMCOREINFO, which the
kernel wrote (Documentation/admin-guide/kdump/vmcoreinfo.rst).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bpfmatrix.errors import UsageError
from bpfmatrix.host.architecture import AARCH64, ARCHITECTURES, X86_64
from bpfmatrix.host.progress import Progress, silent

__all__ = ["GuestCore", "Mapping", "for_gdb", "read", "unpack"]

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Of kdump-compressed files, in QEMU's flattened form and in the usual one (makedumpfile).
_KDUMP_MAGICS = (b"makedumpfile", b"KDUMP   ")
_CHUNK_BYTES = 1 << 20

# ELF64 (elf(5)): the header behind e_ident, and a program header.
_HEADER = struct.Struct("<HHIQQQIHHHHHH")
_IDENT_BYTES = 16
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE_HEADER = struct.Struct("<III")
_ET_CORE, _PT_LOAD, _PT_NOTE = 4, 1, 4
_PF_RWX = 7
# The number of program headers has 16 bits, and 0xffff has a meaning of its own.
_MOST_HEADERS = 0xFFFE

# Where x86_64 maps the kernel's image (Documentation/arch/x86/x86_64/mm.rst).
_X86_IMAGE = 0xFFFFFFFF80000000
# The entry of the page table's second level from the top, by 512 GB, of the "%esp fixup stacks",
# in which each page is mapped thousands of times.
_X86_ESPFIX = 510
_ADDRESS_BITS = 0x0000FFFFFFFFF000


@dataclass(frozen=True)
class _Segment:
    """A part of the guest's physical memory, and where in the file it is."""

    physical: int
    size: int
    offset: int


@dataclass(frozen=True)
class Mapping:
    """A range of virtual addresses that is mapped to a range of physical ones."""

    virtual: int
    physical: int
    size: int


@dataclass(frozen=True)
class GuestCore:
    """What a core file says about itself."""

    arch: str
    info: dict[str, str]
    """The lines `KEY=VALUE` of the note VMCOREINFO; empty if there is no such note."""
    segments: tuple[_Segment, ...]
    note: tuple[int, int]
    """The offset of the notes, and their size."""

    @property
    def release(self) -> str:
        """The release of its kernel (`uname -r`), or `""` if it is not known."""
        return self.info.get("OSRELEASE", "")

    @property
    def build_id(self) -> str:
        """The build id of its kernel in hexadecimal digits; empty before Linux 5.12."""
        return self.info.get("BUILD-ID", "")

    @property
    def offset(self) -> int:
        """How far KASLR has moved the kernel."""
        return int(self.info.get("KERNELOFFSET", "0"), 16)

    def number(self, name: str, default: int | None = None) -> int:
        """Return a number of the note; KeyError if it is missing and there is no default."""
        if default is not None and f"NUMBER({name})" not in self.info:
            return default
        return int(self.info[f"NUMBER({name})"], 0)


def unpack(path: Path, target: Path, progress: Progress = silent) -> None:
    """Write a core file, which may be packed with zstd, to another file, with holes for zeros.

    UsageError if it can't be read, or is no core file of a guest.
    """
    import zstandard  # noqa: PLC0415 - off the start-up path

    try:
        with path.open("rb") as file, target.open("wb") as unpacked:
            magic = file.read(len(_ZSTD_MAGIC))
            file.seek(0)
            source = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            _copy_with_holes(source if magic == _ZSTD_MAGIC else file, unpacked, progress)
    except zstandard.ZstdError as error:
        raise UsageError(
            f"{path} is cut short or damaged: {error}", "Name a file that is whole."
        ) from None
    except OSError as error:
        # A full disk is no fault of the file.
        if error.filename is None:
            raise
        raise UsageError(f"{path} can't be read: {error.strerror}") from None


def _copy_with_holes(source: BinaryIO, target: BinaryIO, progress: Progress) -> None:
    zeros, size = bytes(_CHUNK_BYTES), 0
    while data := source.read(_CHUNK_BYTES):
        size += len(data)
        if data == zeros[: len(data)]:
            target.seek(size)
        else:
            target.write(data)
        if size % (1 << 30) == 0:
            progress(f"unpacking, {size >> 30} GB")
    target.truncate(size)


class _OfProcessError(Exception):
    """A core file that the kernel has written of a process."""


def read(path: Path, name: Path) -> GuestCore:
    """Read the headers of an unpacked core file; `name` is the user's file, for errors.

    UsageError if it is no core file of a guest.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except _OfProcessError:
        raise UsageError(
            f"{name} is the core file of a process, not of a guest",
            f"Open it with the executable that was killed: gdb EXECUTABLE {name}. A run with "
            "--core keeps the test binary beside it.",
        ) from None
    except (struct.error, ValueError, KeyError, IndexError) as error:
        with path.open("rb") as file:
            kdump = file.read(12).startswith(_KDUMP_MAGICS)
        what = "is in the format of kdump, which gdb can't read" if kdump else str(error)
        raise UsageError(
            f"{name} {what if kdump else f'is no core file of a guest: {what}'}",
            "Name the vmcore.zst that a run with --dump wrote, or that file unpacked.",
        ) from None


def _read(file: BinaryIO) -> GuestCore:
    ident = file.read(_IDENT_BYTES)
    if ident[:4] != b"\x7fELF":
        raise ValueError("it is no ELF file")
    # EI_CLASS and EI_DATA: 64 bits, little-endian.
    if ident[4:6] != b"\x02\x01":
        raise ValueError("it is not of a little-endian machine with 64 bits")
    kind, machine, _, _, at, _, _, _, size, count, *_ = _HEADER.unpack(file.read(_HEADER.size))
    if kind != _ET_CORE:
        raise ValueError("it is another kind of ELF file")
    arch = next((a.name for a in ARCHITECTURES.values() if a.elf_machine == machine), "")
    if not arch:
        raise ValueError(f"its machine is unknown ({machine})")
    segments, note = [], (0, 0)
    for number in range(count):
        file.seek(at + number * size)
        header = _PROGRAM_HEADER.unpack(file.read(_PROGRAM_HEADER.size))
        part, _, offset, _, physical, file_bytes, *_ = header
        if part == _PT_LOAD:
            segments.append(_Segment(physical, file_bytes, offset))
        elif part == _PT_NOTE:
            note = (offset, file_bytes)
    whole = file.seek(0, 2)
    if any(one.offset + one.size > whole for one in segments):
        raise ValueError("it is cut short")
    file.seek(note[0])
    notes = dict(_notes(file.read(note[1])))
    if "QEMU" not in notes and "VMCOREINFO" not in notes:
        raise _OfProcessError
    text = notes.get("VMCOREINFO", b"").decode("ascii", errors="replace").rstrip("\0")
    info = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return GuestCore(arch, info, tuple(segments), note)


def _notes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of ELF notes, each of which begins at a multiple of 4 bytes."""
    at = 0
    while at + _NOTE_HEADER.size <= len(data):
        name_bytes, content_bytes, _ = _NOTE_HEADER.unpack_from(data, at)
        at += _NOTE_HEADER.size
        name = data[at : at + name_bytes].rstrip(b"\0").decode("ascii", errors="replace")
        at += -(-name_bytes // 4) * 4
        yield name, data[at : at + content_bytes]
        at += -(-content_bytes // 4) * 4


def for_gdb(path: Path, core: GuestCore, name: Path) -> int:
    """Give an unpacked core file the kernel's virtual addresses, and return how many ranges it has.

    The memory stays where it is in the file: new program headers are added at its end. UsageError
    if the core does not say where the kernel's page tables are; `name` is the user's file.
    """
    with path.open("r+b") as file:
        try:
            mappings = list(_joined(_kernel_mappings(file, core)))
        except (KeyError, ValueError, struct.error):
            mappings = []
        ranges = sorted(_ranges(core, mappings), key=lambda one: one[1], reverse=True)
        if not ranges:
            raise UsageError(
                f"{name} does not say where its kernel's page tables are, so gdb can't read it",
                "The kernel had not loaded qemu_fw_cfg, its driver of QEMU's firmware "
                "configuration, or it does not have that driver (CONFIG_FW_CFG_SYSFS).",
            )
        headers = [_PROGRAM_HEADER.pack(_PT_NOTE, 0, core.note[0], 0, 0, core.note[1], 0, 1)]
        for mapping, size, offset in ranges[: _MOST_HEADERS - 1]:
            place = mapping.virtual, mapping.physical
            headers.append(_PROGRAM_HEADER.pack(_PT_LOAD, _PF_RWX, offset, *place, size, size, 1))
        at = file.seek(0, 2)
        file.write(b"".join(headers))
        file.seek(_IDENT_BYTES)
        kind, machine, version, entry, _, _, flags, *_ = _HEADER.unpack(file.read(_HEADER.size))
        file.seek(_IDENT_BYTES)
        sizes = _IDENT_BYTES + _HEADER.size, _PROGRAM_HEADER.size, len(headers)
        file.write(_HEADER.pack(kind, machine, version, entry, at, 0, flags, *sizes, 0, 0, 0))
    return len(headers) - 1


def _ranges(core: GuestCore, mappings: Sequence[Mapping]) -> Iterator[tuple[Mapping, int, int]]:
    """Yield the parts of the mappings that are in the core: each with its size and file offset."""
    for one in mappings:
        for segment in core.segments:
            start = max(one.physical, segment.physical)
            end = min(one.physical + one.size, segment.physical + segment.size)
            if start < end:
                part = Mapping(one.virtual + start - one.physical, start, end - start)
                yield part, part.size, segment.offset + start - segment.physical


@dataclass(frozen=True)
class _Tables:
    """The form of the page tables of an architecture."""

    root: int
    """The physical address of the top table."""
    base: int
    """The lowest virtual address that the top table maps."""
    page_bits: int
    levels: int
    top_entries: range
    """The entries of the top table that map the kernel."""

    def shift(self, level: int) -> int:
        """Return of which power of two an entry at this level maps as many bytes; 0 is lowest."""
        return self.page_bits + level * (self.page_bits - 3)


def _kernel_mappings(file: BinaryIO, core: GuestCore) -> Iterator[Mapping]:
    """Yield what the kernel's page tables map, in the order of the virtual addresses.

    KeyError or ValueError if the core does not say where the tables are.
    """
    if core.arch == X86_64.name:
        tables = _x86_tables(core)
    elif core.arch == AARCH64.name:
        tables = _arm_tables(core)
    else:
        raise ValueError(core.arch)
    yield from _walk(file, core, tables, tables.root, tables.levels - 1, tables.base)


def _x86_tables(core: GuestCore) -> _Tables:
    root = int(core.info["SYMBOL(swapper_pg_dir)"], 16) - _X86_IMAGE + core.number("phys_base")
    levels = 5 if core.number("pgtable_l5_enabled", 0) else 4
    # The upper half of the addresses is the kernel's.
    base = (1 << 64) - (1 << (12 + levels * 9))
    return _Tables(root, base, 12, levels, range(256, 512))


def _arm_tables(core: GuestCore) -> _Tables:
    root = int(core.info["SYMBOL(swapper_pg_dir)"], 16) - core.number("kimage_voffset")
    page_bits = int(core.info["PAGESIZE"]).bit_length() - 1
    # The kernel may use fewer bits than it was built for (TCR_EL1.T1SZ).
    bits = 64 - core.number("TCR_EL1_T1SZ", 64 - core.number("VA_BITS"))
    levels = -(-(bits - page_bits) // (page_bits - 3))
    top = 1 << (bits - page_bits - (levels - 1) * (page_bits - 3))
    return _Tables(root, (1 << 64) - (1 << bits), page_bits, levels, range(top))


def _walk(
    file: BinaryIO, core: GuestCore, tables: _Tables, table: int, level: int, virtual: int
) -> Iterator[Mapping]:
    """Yield the mappings of a table at a physical address, which maps from `virtual` on."""
    place = _offset(core, table)
    if place is None:
        return
    whole = level == tables.levels - 1
    entries = tables.top_entries if whole else range(1 << (tables.page_bits - 3))
    file.seek(place)
    values = struct.unpack(f"<{entries.stop}Q", file.read(8 * entries.stop))
    shift = tables.shift(level)
    for number in entries:
        value = values[number]
        address = virtual + (number << shift)
        if not value & 1 or (core.arch == X86_64.name and _is_espfix(address)):
            continue
        physical = value & _ADDRESS_BITS & -(1 << tables.page_bits)
        if level == 0 or _is_block(core.arch, value):
            yield Mapping(address, physical & -(1 << shift), 1 << shift)
        else:
            yield from _walk(file, core, tables, physical, level - 1, address)


def _is_espfix(address: int) -> bool:
    return address >> 48 == 0xFFFF and address >> 39 & 0x1FF == _X86_ESPFIX


def _is_block(arch: str, entry: int) -> bool:
    """Return whether an entry above the lowest level maps memory, and is no further table."""
    # x86: the bit PS (Intel SDM, volume 3, 4.5). arm64: bit 1 is set for a table (Arm ARM, D8.3).
    return bool(entry & 0x80) if arch == X86_64.name else not entry & 2


def _offset(core: GuestCore, physical: int) -> int | None:
    for one in core.segments:
        if one.physical <= physical < one.physical + one.size:
            return one.offset + physical - one.physical
    return None


def _joined(mappings: Iterator[Mapping]) -> Iterator[Mapping]:
    """Join mappings that follow one another, virtually and physically."""
    last: Mapping | None = None
    for one in mappings:
        if (
            last is not None
            and last.virtual + last.size == one.virtual
            and last.physical + last.size == one.physical
        ):
            last = Mapping(last.virtual, last.physical, last.size + one.size)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last
