"""The two programs of the guest's that busybox lacks, as static ELF executables of 0.2 KB.

`reseed-random`: two machines that are restored from one template begin with the same state of the
kernel's random number generator. What is written to /dev/urandom is mixed in, but used only at the
next reseeding, which can be a second later (Linux 5.18 and newer) or minutes. It asks for it at
once.

`unlock-terminal`: the other side of a pseudo-terminal can be opened only after an ioctl on its
master, which this program has as its standard input.
"""

import struct

from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = ["executables"]

_BASE = 0x400000
_ELF_HEADER_BYTES, _PROGRAM_HEADER_BYTES = 64, 56

# open(path, O_RDONLY); ioctl(fd, RNDRESEEDCRNG); exit(0). RNDRESEEDCRNG is _IO('R', 7), 0x5207, of
# the kernel's include/uapi/linux/random.h (since 4.14); the path follows the code.
_RESEED = {
    "x86_64": bytes.fromhex(
        "488d3d1e000000"  # lea rdi, [rip + 30]: the path
        "31f6"  # xor esi, esi
        "b802000000"  # mov eax, 2: open
        "0f05"  # syscall
        "89c7"  # mov edi, eax
        "be07520000"  # mov esi, 0x5207
        "b810000000"  # mov eax, 16: ioctl
        "0f05"  # syscall
        "31ff"  # xor edi, edi
        "6a3c58"  # push 60; pop rax: exit
        "0f05"  # syscall
    )
    + b"/dev/urandom\0",
    # openat(AT_FDCWD, path, O_RDONLY) in place of open, which arm64 never had.
    "aarch64": bytes.fromhex(
        "61010010"  # adr x1, 44: the path
        "600c8092"  # mov x0, #-100
        "020080d2"  # mov x2, #0
        "080780d2"  # mov x8, #56: openat
        "010000d4"  # svc #0
        "e1408a52"  # mov w1, #0x5207
        "a80380d2"  # mov x8, #29: ioctl
        "010000d4"  # svc #0
        "000080d2"  # mov x0, #0
        "a80b80d2"  # mov x8, #93: exit
        "010000d4"  # svc #0
    )
    + b"/dev/urandom\0",
}

# ioctl(0, TIOCSPTLCK, &zero); exit(0). TIOCSPTLCK is _IOW('T', 0x31, int), 0x40045431, of the
# kernel's include/uapi/asm-generic/ioctls.h; the int, 0 for unlocked, follows the code.
_UNLOCK = {
    "x86_64": bytes.fromhex(
        "488d1515000000"  # lea rdx, [rip + 21]: the int
        "31ff"  # xor edi, edi
        "be31540440"  # mov esi, 0x40045431
        "b810000000"  # mov eax, 16: ioctl
        "0f05"  # syscall
        "31ff"  # xor edi, edi
        "6a3c58"  # push 60; pop rax: exit
        "0f05"  # syscall
    )
    + bytes(4),
    "aarch64": bytes.fromhex(
        "22010010"  # adr x2, 36: the int
        "000080d2"  # mov x0, #0
        "21868a52"  # mov w1, #0x5431
        "8100a872"  # movk w1, #0x4004, lsl #16
        "a80380d2"  # mov x8, #29: ioctl
        "010000d4"  # svc #0
        "000080d2"  # mov x0, #0
        "a80b80d2"  # mov x8, #93: exit
        "010000d4"  # svc #0
    )
    + bytes(4),
}


def executables(arch: str) -> dict[str, bytes]:
    """Return the programs for an architecture, by their names."""
    return {
        "reseed-random": _executable(arch, _RESEED[arch]),
        "unlock-terminal": _executable(arch, _UNLOCK[arch]),
    }


def _executable(arch: str, content: bytes) -> bytes:
    """Return an ELF header, one segment, and the code in it (elf(5))."""
    start = _ELF_HEADER_BYTES + _PROGRAM_HEADER_BYTES
    size = start + len(content)
    identification = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bits, little endian
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identification,
        2,  # ET_EXEC
        ARCHITECTURES[arch].elf_machine,
        1,
        _BASE + start,
        _ELF_HEADER_BYTES,
        0,
        0,
        _ELF_HEADER_BYTES,
        _PROGRAM_HEADER_BYTES,
        1,
        *(0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + content
