"""Formats of kernel images: architecture, release, and the ELF file that boots through PVH.

`inspect` takes the bytes of a bzImage, of an arm64 Image, Image.gz or EFI zboot image, or of a
vmlinux, and returns a `Vmlinuz`. BpfmatrixError for bytes that are no kernel.
"""

import re
import struct
from dataclasses import dataclass

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels.formats.compression import BadDataError, decompress, format_of

__all__ = ["Vmlinuz", "inspect"]

_BANNER = re.compile(rb"Linux version (\d[\w.+~:-]*) (\([^\n\0]{0,400})")
_RELEASE = re.compile(r"\d+\.\d+[\w.+~:-]*")
_EM_386, _EM_X86_64, _EM_AARCH64 = 3, 62, 183
_PT_NOTE = 4
# include/xen/interface/elfnote.h: the 32-bit entry point that PVH boots through.
_XEN_ELFNOTE_PHYS32_ENTRY = 18


@dataclass(frozen=True)
class Vmlinuz:
    """A kernel image that was recognised."""

    arch: str
    """`x86_64` or `aarch64`."""
    release: str
    """What `uname -r` will say."""
    unpacked: bytes | None
    """What QEMU boots faster than the image itself: on x86_64 the vmlinux, if it can boot through
    PVH, on aarch64 the Image, if the image was compressed. Otherwise None."""
    banner: str = ""
    """The text behind the release: who built the kernel and when, and Debian's version."""

    @property
    def pvh(self) -> bool:
        """Whether `unpacked` boots through PVH."""
        return self.arch == "x86_64" and self.unpacked is not None


def inspect(data: bytes, name: str) -> Vmlinuz:
    """Recognise a kernel image. `name` is its name in an error."""
    try:
        if data[0x202:0x206] == b"HdrS":
            return _bzimage(data)
        if data[0x38:0x3C] == b"ARMd":
            return _bannered("aarch64", data, None)
        if data[:2] == b"MZ" and data[4:8] == b"zimg":
            return _compressed_image(_zboot_payload(data))
        if data[:4] == b"\x7fELF":
            return _vmlinux(data)
        if format_of(data):
            return _compressed_image(data)
    except BadDataError as error:
        raise BpfmatrixError(
            f"{name} is not a kernel that can be booted: {error}",
            "Expected: a bzImage, an arm64 Image or Image.gz, or a vmlinux.",
        ) from error
    raise BpfmatrixError(
        f"{name} is not a kernel: it does not begin like a bzImage, Image, Image.gz or vmlinux",
        "Expected: the file that a kernel's build or package calls vmlinuz.",
    )


def _bzimage(data: bytes) -> Vmlinuz:
    """Read the setup header: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"."""
    if len(data) < 0x250:
        raise BadDataError("it ends within its header")
    (protocol,) = struct.unpack_from("<H", data, 0x206)
    # payload_offset and payload_length came with protocol 2.08 (Linux 2.6.26).
    if protocol < 0x0208:
        raise BadDataError(f"its boot protocol {protocol >> 8}.{protocol & 255:02} is too old")
    # xloadflags (protocol 2.12, Linux 3.8), bit 0: there is a 64-bit entry point.
    if protocol < 0x020C or not struct.unpack_from("<H", data, 0x236)[0] & 1:
        raise BadDataError("it is a 32-bit kernel")
    # "For backwards compatibility, if the setup_sects field contains 0, the real value is 4."
    setup_bytes = ((data[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = setup_bytes + offset
    if length == 0 or start + length > len(data):
        raise BadDataError("it is shorter than its header says")
    # kernel_version: "the offset ... plus 0x200" of a NUL-terminated text, the release first.
    (at,) = struct.unpack_from("<H", data, 0x20E)
    text = data[at + 0x200 : at + 0x200 + 256].split(b"\0")[0].decode("ascii", "replace")
    release = (text.split() or [""])[0]
    if not _RELEASE.fullmatch(release):
        raise BadDataError("its header names no release")
    banner = text[len(release) :].strip()
    vmlinux = decompress(data[start : start + length])
    if vmlinux[:4] != b"\x7fELF":
        raise BadDataError("its decompressed data is not an ELF file")
    return Vmlinuz("x86_64", release, vmlinux if has_pvh_entry(vmlinux) else None, banner)


def _zboot_payload(data: bytes) -> bytes:
    """Return the compressed Image, which the header of an EFI zboot image locates.

    The header is in drivers/firmware/efi/libstub/zboot-header.S.
    """
    if len(data) < 16:
        raise BadDataError("it ends within its header")
    offset, size = struct.unpack_from("<II", data, 8)
    if size == 0 or offset + size > len(data):
        raise BadDataError("it is shorter than its header says")
    return data[offset : offset + size]


def _compressed_image(data: bytes) -> Vmlinuz:
    image = decompress(data)
    # Documentation/arch/arm64/booting.rst: magic number "ARM\x64" at offset 56.
    if image[0x38:0x3C] != b"ARMd":
        raise BadDataError("its decompressed data is not an arm64 Image")
    return _bannered("aarch64", image, image)


def _vmlinux(data: bytes) -> Vmlinuz:
    if len(data) < 64 or data[4:6] != b"\x02\x01":
        raise BadDataError("it is not a 64-bit little-endian ELF file")
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine == _EM_AARCH64:
        raise BadDataError("QEMU does not boot an arm64 vmlinux, only its Image")
    if machine != _EM_X86_64:
        raise BadDataError(f"it is for another architecture (ELF machine {machine})")
    if not has_pvh_entry(data):
        raise BadDataError("this vmlinux has no PVH entry (CONFIG_PVH), and QEMU needs one")
    return _bannered("x86_64", data, data)


def _bannered(arch: str, image: bytes, unpacked: bytes | None) -> Vmlinuz:
    """Read `linux_banner` (init/version.c)."""
    if match := _BANNER.search(image):
        release, rest = (text.decode("ascii", "replace") for text in match.groups())
        return Vmlinuz(arch, release, unpacked, rest)
    raise BadDataError("it contains no Linux banner")


def has_pvh_entry(elf: bytes) -> bool:
    """Whether a 64-bit ELF file has the note that QEMU's -kernel needs (hw/i386/x86.c).

    It is parsed here, by elf(5), and not by a library, as the bytes may be anything.
    """
    if len(elf) < 64 or elf[4:6] != b"\x02\x01":
        return False
    (table,) = struct.unpack_from("<Q", elf, 32)
    entry_bytes, entries = struct.unpack_from("<HH", elf, 54)
    if entry_bytes != 56:
        return False
    for index in range(entries):
        at = table + index * entry_bytes
        if at + entry_bytes > len(elf):
            return False
        (kind,) = struct.unpack_from("<I", elf, at)
        offset, size, align = (
            struct.unpack_from("<Q", elf, at + field)[0] for field in (8, 32, 48)
        )
        if kind == _PT_NOTE and _has_xen_note(elf[offset : offset + size], 8 if align == 8 else 4):
            return True
    return False


def _has_xen_note(notes: bytes, align: int) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name_bytes, value_bytes, kind = struct.unpack_from("<III", notes, at)
        name = notes[at + 12 : at + 12 + name_bytes]
        if name == b"Xen\0" and kind == _XEN_ELFNOTE_PHYS32_ENTRY:
            return True
        at += 12 + -(-name_bytes // align) * align + -(-value_bytes // align) * align
    return False
