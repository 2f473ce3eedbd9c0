"""Core files of a guest's memory: what they say about themselves, and how gdb gets to read them."""

import struct
from pathlib import Path

import pytest
import zstandard

from bpfmatrix.errors import UsageError
from bpfmatrix.kernels.formats import guest_core
from bpfmatrix.kernels.formats.guest_core import Mapping

NAME = Path("vmcore.zst")
X86, ARM = 62, 183
MEMORY_AT = 0x40000000
PAGE = 4096


def note(name: bytes, content: bytes) -> bytes:
    """Return an ELF note."""

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return (
        struct.pack("<III", len(name) + 1, len(content), 0) + padded(name + b"\0") + padded(content)
    )


def core(machine: int, notes: bytes, memory: bytes, kind: int = 4) -> bytes:
    """Return an ELF core with these notes, and with this memory at `MEMORY_AT`."""
    at = 64 + 2 * 56
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    of_notes = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), 0, 1)
    size = len(memory)
    load = struct.pack("<IIQQQQQQ", 1, 7, at + len(notes), 0, MEMORY_AT, size, size, 1)
    return ident + header + of_notes + load + notes + memory


def tables(*pages: dict[int, int], size: int = 4 << 20) -> bytes:
    """Return memory that begins with page tables of 512 entries: each by its numbers."""
    memory = bytearray(size)
    for number, entries in enumerate(pages):
        for entry, value in entries.items():
            struct.pack_into("<Q", memory, number * PAGE + entry * 8, value)
    return bytes(memory)


def table(number: int) -> int:
    """Return the physical address of a table of `tables`."""
    return MEMORY_AT + number * PAGE


def info(**lines: str) -> bytes:
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    return note(b"QEMU", b"\1" * 8) + note(b"VMCOREINFO", text.encode())


def x86_core() -> bytes:
    """A core of x86_64 whose tables map two pages that follow one another, and one of 2 MB."""
    # The root's address in the kernel's image: see `phys_base`.
    lines = {
        "OSRELEASE": "6.1.0-x",
        "BUILD-ID": "ab" * 20,
        "SYMBOL(swapper_pg_dir)": f"{0xFFFFFFFF80000000:x}",
        "NUMBER(phys_base)": str(MEMORY_AT),
        "NUMBER(pgtable_l5_enabled)": "0",
        "KERNELOFFSET": "1a000000",
    }
    memory = tables(
        {0: table(5) | 1, 256: table(1) | 1, 510: table(1) | 1},
        {0: table(2) | 1},
        {0: table(3) | 1, 1: (MEMORY_AT + 0x200000) | 0x81},
        {0: (MEMORY_AT + 0x8000) | 1, 1: (MEMORY_AT + 0x9000) | 1, 2: MEMORY_AT + 0xA000},
    )
    return core(X86, info(**lines), memory)


def arm_core(**changed: str) -> bytes:
    """A core of arm64 with 48 bits of addresses and pages of 4 KB."""
    lines = {
        "OSRELEASE": "6.1.0-a",
        "PAGESIZE": "4096",
        "SYMBOL(swapper_pg_dir)": f"{0xFFFFB53500000000:x}",
        "NUMBER(kimage_voffset)": hex(0xFFFFB53500000000 - MEMORY_AT),
        "NUMBER(VA_BITS)": "48",
        "NUMBER(TCR_EL1_T1SZ)": "0x10",
    }
    memory = tables(
        {1: table(1) | 3},
        {0: table(2) | 3},
        {0: table(3) | 3, 2: (MEMORY_AT + 0x200000) | 1},
        {5: (MEMORY_AT + 0x5000) | 0x0040000000000003},
    )
    return core(ARM, info(**{**lines, **changed}), memory)


def ranges(path: Path) -> list[Mapping]:
    """Return the loaded ranges of an ELF file, in the order of the addresses."""
    data = path.read_bytes()
    at, size, count = struct.unpack_from("<Q14xHH", data, 32)
    headers = [struct.unpack_from("<IIQQQQQQ", data, at + n * size) for n in range(count)]
    assert [header[0] for header in headers[:1]] == [4]
    return sorted(
        (Mapping(header[3], header[4], header[5]) for header in headers[1:]),
        key=lambda one: one.virtual,
    )


def test_the_kernels_addresses_on_x86(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(x86_core())
    found = guest_core.read(path, NAME)
    assert (found.arch, found.release, found.build_id) == ("x86_64", "6.1.0-x", "ab" * 20)
    assert found.offset == 0x1A000000
    before = path.read_bytes()
    assert guest_core.for_gdb(path, found, NAME) == 2
    base = 0xFFFF800000000000
    assert ranges(path) == [
        Mapping(base, MEMORY_AT + 0x8000, 2 * PAGE),
        Mapping(base + 0x200000, MEMORY_AT + 0x200000, 0x200000),
    ]
    # Notes and memory have stayed where they were.
    assert path.read_bytes()[64 : len(before)] == before[64:]


def test_the_kernels_addresses_on_arm64(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(arm_core())
    found = guest_core.read(path, NAME)
    assert (found.arch, found.build_id, found.offset) == ("aarch64", "", 0)
    guest_core.for_gdb(path, found, NAME)
    base = 0xFFFF000000000000 + (1 << 39)
    assert ranges(path) == [
        Mapping(base + 5 * PAGE, MEMORY_AT + 0x5000, PAGE),
        Mapping(base + (2 << 21), MEMORY_AT + 0x200000, 0x200000),
    ]


def test_a_guest_that_uses_fewer_bits_than_its_kernel_could(tmp_path: Path) -> None:
    path = tmp_path / "core"
    # With 39 bits there are three levels.
    path.write_bytes(arm_core(**{"NUMBER(VA_BITS)": "52", "NUMBER(TCR_EL1_T1SZ)": "0x19"}))
    guest_core.for_gdb(path, guest_core.read(path, NAME), NAME)
    assert {one.virtual >> 39 for one in ranges(path)} == {0x1FFFFFF}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no core file of a guest: it is no ELF file"),
        (b"#!/bin/sh\n", "no core file of a guest: it is no ELF file"),
        (b"\x7fELF\x01\x01" + bytes(200), "not of a little-endian machine with 64 bits"),
        (core(X86, info(), bytes(PAGE), kind=2), "another kind of ELF file"),
        (core(7, info(), bytes(PAGE)), r"its machine is unknown \(7\)"),
        (core(X86, note(b"CORE", b"x" * 8), bytes(PAGE)), "the core file of a process"),
        (core(X86, info(), bytes(PAGE))[:-1], "it is cut short"),
        (x86_core()[:100], "no core file of a guest"),
        (b"KDUMP   " + bytes(PAGE), "in the format of kdump"),
        (b"makedumpfile" + bytes(PAGE), "in the format of kdump"),
    ],
)
def test_files_that_are_no_cores_of_guests(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "core"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"vmcore.zst .*{reason}"):
        guest_core.read(path, NAME)


@pytest.mark.parametrize(
    "notes", [note(b"QEMU", b"\1" * 8), info(OSRELEASE="6.1"), info(**{"NUMBER(phys_base)": "x"})]
)
def test_a_core_without_the_place_of_its_page_tables(tmp_path: Path, notes: bytes) -> None:
    path = tmp_path / "core"
    path.write_bytes(core(X86, notes, bytes(PAGE)))
    with pytest.raises(UsageError, match="page tables") as raised:
        guest_core.for_gdb(path, guest_core.read(path, NAME), NAME)
    assert "CONFIG_FW_CFG_SYSFS" in raised.value.advice


@pytest.mark.parametrize("packed", [True, False])
def test_unpacking_leaves_holes(tmp_path: Path, packed: bool) -> None:
    content = b"x" * PAGE + bytes(8 << 20) + b"y" + bytes(2 << 20)
    source, target = tmp_path / "vmcore", tmp_path / "unpacked"
    source.write_bytes(zstandard.ZstdCompressor().compress(content) if packed else content)
    guest_core.unpack(source, target)
    assert target.read_bytes() == content
    assert target.stat().st_blocks * 512 <= 4 << 20


def test_files_that_can_not_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: No such file"):
        guest_core.unpack(tmp_path / "missing", tmp_path / "target")
    damaged = tmp_path / "damaged"
    content = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(bytes(PAGE) + b"x"))
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(UsageError, match="cut short or damaged"):
        guest_core.unpack(damaged, tmp_path / "target")
