"""Formats of kernel images: architecture, release, and the ELF file that boots through PVH.

`inspect` takes the bytes of a bzImage (of x86 or s390x), of an Image, Image.gz or EFI zboot image,
or of a vmlinux, and returns a `Vmlinuz`. BpfmatrixError for bytes that are no kernel.
"""

import re
import struct
from dataclasses import dataclass

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.architecture import ARCHITECTURES, S390X, X86_64, Architecture
from bpfmatrix.kernels.formats.compression import BadDataError, decompress, format_of

__all__ = ["Vmlinuz", "inspect", "is_bzimage", "is_compressed"]

_BANNER = re.compile(rb"Linux version (\d[\w.+~:-]*) (\([^\n\0]{0,400})")
_RELEASE = re.compile(r"\d+\.\d+[\w.+~:-]*")
_PT_NOTE = 4
# include/xen/interface/elfnote.h: the 32-bit entry point that PVH boots through.
_XEN_ELFNOTE_PHYS32_ENTRY = 18
# arch/s390/boot/head.S: the entry point, its marker, and the offset of the field kernel_version in
# struct parmarea (arch/s390/include/asm/setup.h). The field is there since Linux 5.7.
_S390_MAGIC_AT, _S390_MAGIC, _S390_VERSION_AT = 0x10008, b"S390EP", 0x10428


@dataclass(frozen=True)
class Vmlinuz:
    """A kernel image that was recognised."""

    arch: str
    """The name of one of `ARCHITECTURES`."""
    release: str
    """What `uname -r` will say."""
    unpacked: bytes | None
    """What QEMU boots faster than the image itself: the vmlinux of a bzImage if it can boot through
    PVH, or the Image of a compressed Image. Otherwise None."""
    banner: str = ""
    """The text behind the release: who built the kernel and when, and Debian's version."""

    @property
    def pvh(self) -> bool:
        """Whether `unpacked` boots through PVH."""
        return self.arch == X86_64.name and self.unpacked is not None


def inspect(data: bytes, name: str) -> Vmlinuz:
    """Recognise a kernel image. `name` is its name in an error."""
    try:
        if is_bzimage(data):
            return _bzimage(data)
        if arch := _architecture_of_image(data):
            return _bannered(arch, data, None)
        if _is_s390_bzimage(data):
            return _s390_bzimage(data)
        if data[:2] == b"MZ" and data[4:8] == b"zimg":
            return _compressed_image(_zboot_payload(data))
        if data[:4] == b"\x7fELF":
            return _vmlinux(data)
        if format_of(data):
            return _compressed_image(data)
    except BadDataError as error:
        raise BpfmatrixError(
            f"{name} is not a kernel that can be booted: {error}",
            "Expected: a bzImage, an Image or Image.gz, or a vmlinux.",
        ) from error
    raise BpfmatrixError(
        f"{name} is not a kernel: it does not begin like a bzImage, Image, Image.gz or vmlinux",
        "Expected: the file that a kernel's build or package calls vmlinuz.",
    )


def is_bzimage(data: bytes) -> bool:
    """Tell whether a kernel is a bzImage, by the magic number of its setup header."""
    return data[0x202:0x206] == b"HdrS"


def is_compressed(data: bytes) -> bool:
    """Tell whether a kernel that QEMU boots unpacks itself, so that its code can't be searched."""
    return is_bzimage(data) or _is_s390_bzimage(data)


def _is_s390_bzimage(data: bytes) -> bool:
    return data.startswith(_S390_MAGIC, _S390_MAGIC_AT)


def _architecture_of_image(data: bytes) -> Architecture | None:
    """Return the architecture of an uncompressed Image; None if the data is no Image."""
    magic = data[0x38:0x3C]
    return next((one for one in ARCHITECTURES.values() if one.image_magic == magic), None)


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
    return Vmlinuz(X86_64.name, release, vmlinux if has_pvh_entry(vmlinux) else None, banner)


def _s390_bzimage(data: bytes) -> Vmlinuz:
    """Read the parameter area: the address of a NUL-terminated text, the release first.

    QEMU starts the image as it is. The vmlinux in it can't be booted without its decompressor.
    """
    (at,) = struct.unpack_from(">Q", data.ljust(_S390_VERSION_AT + 8, b"\0"), _S390_VERSION_AT)
    text = data[at : at + 256].split(b"\0")[0].decode("ascii", "replace")
    release = (text.split() or [""])[0]
    if not at or not _RELEASE.fullmatch(release):
        raise BadDataError("its header names no release")
    return Vmlinuz(S390X.name, release, None, text[len(release) :].strip())


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
    arch = _architecture_of_image(image)
    if arch is None:
        raise BadDataError("its decompressed data is not an Image")
    return _bannered(arch, image, image)


def _vmlinux(data: bytes) -> Vmlinuz:
    # The class is 64 bits, and the byte order the first one or the second (elf(5): EI_DATA).
    if len(data) < 64 or data[4:6] not in (b"\x02\x01", b"\x02\x02"):
        raise BadDataError("it is not a 64-bit ELF file")
    big_endian = data[5] == 2
    (machine,) = struct.unpack_from(">H" if big_endian else "<H", data, 18)
    known = (one for one in ARCHITECTURES.values() if one.big_endian == big_endian)
    arch = next((one for one in known if one.elf_machine == machine), None)
    if arch is None:
        raise BadDataError(f"it is for another architecture (ELF machine {machine})")
    if not arch.boots_vmlinux:
        image = arch.kernel_image.rpartition("/")[2].removesuffix(".gz")
        raise BadDataError(f"QEMU does not boot a vmlinux of {arch.name}, only its {image}")
    if arch == X86_64 and not has_pvh_entry(data):
        raise BadDataError("this vmlinux has no PVH entry (CONFIG_PVH), and QEMU needs one")
    return _bannered(arch, data, data)


def _bannered(arch: Architecture, image: bytes, unpacked: bytes | None) -> Vmlinuz:
    """Read `linux_banner` (init/version.c)."""
    if match := _BANNER.search(image):
        release, rest = (text.decode("ascii", "replace") for text in match.groups())
        return Vmlinuz(arch.name, release, unpacked, rest)
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
