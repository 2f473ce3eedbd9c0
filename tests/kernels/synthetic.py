"""Kernel images as small as their formats allow: real headers, nothing behind them."""

import gzip
import struct

RELEASE = "6.1.0-9-cloud-amd64"


def note(name: bytes, kind: int, value: bytes) -> bytes:
    """One ELF note, padded to 4."""

    def padded(data: bytes) -> bytes:
        return data + b"\0" * (-len(data) % 4)

    return struct.pack("<III", len(name), len(value), kind) + padded(name) + padded(value)


def vmlinux(pvh: bool = True, machine: int = 62, text: bytes = b"") -> bytes:
    """A 64-bit ELF with one program header, PT_NOTE, of two notes."""
    notes = note(b"GNU\0", 3, b"12345") + note(b"Xen\0", 18 if pvh else 6, b"\0" * 8)
    header = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return header + segment + notes + text


def bzimage(payload: bytes | None = None, release: str = RELEASE) -> bytes:
    """A bzImage of boot protocol 2.15 around a payload (default: a packed vmlinux with PVH)."""
    if payload is None:
        payload = gzip.compress(vmlinux(text=release.encode()), mtime=0)
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x020F)
    struct.pack_into("<H", setup, 0x20E, 0x100)  # kernel_version, at 0x300
    struct.pack_into("<H", setup, 0x236, 1)
    struct.pack_into("<II", setup, 0x248, 16, len(payload))
    text = f"{release} (someone@somewhere) #1 SMP\0".encode()
    setup[0x300 : 0x300 + len(text)] = text
    return bytes(setup) + b"\0" * 16 + payload


def arm64_image(release: str = "6.1.0-9-cloud-arm64") -> bytes:
    """An arm64 Image: the header's magic, and a banner."""
    image = bytearray(64)
    image[0x38:0x3C] = b"ARMd"
    return bytes(image) + f"Linux version {release} (someone@somewhere) #1".encode()


def riscv_image(release: str = "6.12.117+deb13-riscv64") -> bytes:
    """A riscv Image: the header's second magic number, and a banner."""
    return arm64_image(release).replace(b"ARMd", b"RSC\x05")


def s390_bzimage(release: str = "6.12.107+deb13-s390x") -> bytes:
    """A bzImage of s390x: the entry point's marker, and the address of the release's text."""
    image = bytearray(0x10480)
    image[0x10008:0x1000E] = b"S390EP"
    struct.pack_into(">Q", image, 0x10428, len(image))
    text = f"{release} (someone@somewhere) #1 SMP Debian 6.12.107-1 (2026-08-29)\0"
    return bytes(image) + text.encode()


def module() -> bytes:
    """A relocatable 64-bit ELF with no sections: as much as depmod wants to see."""
    header = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    return header + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 0, 0, 64, 0, 0, 64, 0, 0)
