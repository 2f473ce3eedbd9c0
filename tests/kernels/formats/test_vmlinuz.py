import bz2
import contextlib
import gzip
import lzma
import struct
from collections.abc import Callable

import lz4.block  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels.formats.compression import BadDataError, decompress
from bpfmatrix.kernels.formats.vmlinuz import has_pvh_entry, inspect
from bpfmatrix.kernels.staging import upstream_version
from tests.kernels.synthetic import (
    RELEASE,
    arm64_image,
    bzimage,
    riscv_image,
    s390_bzimage,
    vmlinux,
)


def lz4_legacy(data: bytes) -> bytes:
    blocks = [data[at : at + (8 << 20)] for at in range(0, len(data), 8 << 20)]
    packed = [lz4.block.compress(block, store_size=False) for block in blocks]
    return b"\x02!L\x18" + b"".join(struct.pack("<I", len(p)) + p for p in packed)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lz4_legacy,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("name", PACKERS)
def test_what_x86_packs_is_unpacked(name: str) -> None:
    elf = vmlinux(text=b"text " * 100)
    appended = b"" if name == "gzip" else struct.pack("<I", len(elf))
    image = inspect(bzimage(PACKERS[name](elf) + appended), "x")
    assert (image.arch, image.release, image.unpacked) == ("x86_64", RELEASE, elf)
    assert image.pvh


def test_lz4_of_more_than_one_block() -> None:
    data = bytes(range(256)) * (40 << 10)
    assert decompress(lz4_legacy(data)) == data


@pytest.mark.parametrize("name", PACKERS)
def test_what_unpacks_to_too_much_is_refused(name: str) -> None:
    with pytest.raises(BadDataError):
        decompress(PACKERS[name](b"\0" * (4 << 20)), limit_bytes=1 << 20)


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.data())
def test_truncated_streams_are_bad_data(name: str, data: st.DataObject) -> None:
    packed = PACKERS[name](vmlinux(text=bytes(range(256)) * 8))
    end = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BadDataError):
        decompress(packed[:end])


def test_a_kernel_without_pvh_boots_from_its_bzimage() -> None:
    image = inspect(bzimage(gzip.compress(vmlinux(pvh=False))), "x")
    assert image.unpacked is None
    assert not image.pvh


def test_arm64_images() -> None:
    plain = inspect(arm64_image(), "x")
    assert (plain.arch, plain.release, plain.unpacked) == ("aarch64", "6.1.0-9-cloud-arm64", None)
    assert inspect(gzip.compress(arm64_image()), "x").unpacked == arm64_image()
    payload = gzip.compress(arm64_image())
    zboot = b"MZ\0\0zimg" + struct.pack("<II", 64, len(payload)) + b"\0" * 48 + payload
    assert inspect(zboot, "x").unpacked == arm64_image()


def test_riscv_images() -> None:
    plain = inspect(riscv_image(), "x")
    assert (plain.arch, plain.release) == ("riscv64", "6.12.117+deb13-riscv64")
    assert inspect(gzip.compress(riscv_image()), "x").unpacked == riscv_image()


def test_s390_images() -> None:
    image = inspect(s390_bzimage(), "x")
    assert (image.arch, image.release) == ("s390x", "6.12.107+deb13-s390x")
    assert (image.unpacked, image.pvh) == (None, False)
    assert upstream_version(image) == "6.12.107"


def test_a_vmlinux_of_powerpc_is_booted_as_it_is() -> None:
    elf = vmlinux(pvh=False, machine=21, text=b"Linux version 6.12.107+deb13-powerpc64le (x@y)")
    image = inspect(elf, "x")
    assert (image.arch, image.release) == ("ppc64le", "6.12.107+deb13-powerpc64le")
    assert (image.unpacked, image.pvh) == (elf, False)


def big_endian(elf: bytes) -> bytes:
    """Return a header of an ELF file with the other byte order, as far as it is read."""
    return elf[:5] + b"\x02" + elf[6:18] + elf[18:20][::-1] + elf[20:]


def test_vmlinux() -> None:
    elf = vmlinux(text=b"Linux version 6.1.5 (x@y)")
    assert inspect(elf, "x").release == "6.1.5"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "does not begin like"),
        (b"#!/bin/sh\n" * 100, "does not begin like"),
        (bzimage()[:-1], "shorter than its header says"),
        (bzimage()[:0x220], "ends within its header"),
        (bzimage(b"\x89LZO" + b"\0" * 100), "lzo, which is not supported"),
        (bzimage(b"\x5d\x00\x00" + b"\xff" * 100), "lzma data"),
        (bzimage(gzip.compress(b"text", mtime=0)), "not an ELF file"),
        (gzip.compress(b"text", mtime=0), "is not an Image"),
        (vmlinux(pvh=False), "no PVH entry"),
        (vmlinux(machine=183), "not boot a vmlinux of aarch64, only its Image"),
        (big_endian(vmlinux(machine=22)), "not boot a vmlinux of s390x, only its bzImage"),
        (big_endian(vmlinux(machine=21)), "for another architecture"),
        (s390_bzimage()[:0x10480], "names no release"),
        (s390_bzimage()[:0x10010], "names no release"),
    ],
)
def test_what_is_no_kernel_is_said_in_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(BpfmatrixError, match=sentence) as raised:
        inspect(data, "ci-kernels/6.1/vmlinuz")
    assert raised.value.what.startswith("ci-kernels/6.1/vmlinuz is not a kernel")


SEEDS = [
    bzimage(),
    arm64_image(),
    gzip.compress(arm64_image(), mtime=0),
    vmlinux(text=b"Linux version 6.1 ("),
]
SEEDS += [bzimage(pack(vmlinux())) for pack in PACKERS.values()]


@given(
    seed=st.sampled_from(SEEDS),
    end=st.integers(0, 4096),
    changes=st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=8),
)
def test_wild_bytes_are_a_kernel_or_a_sentence(
    seed: bytes, end: int, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(seed[:end])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    with contextlib.suppress(BpfmatrixError):
        assert inspect(bytes(data), "x").release


@given(st.binary(max_size=4096))
def test_a_note_is_searched_in_anything(data: bytes) -> None:
    assert not has_pvh_entry(data)
    has_pvh_entry(vmlinux()[:58] + data)
