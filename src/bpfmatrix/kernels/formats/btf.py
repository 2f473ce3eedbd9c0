"""The BTF of a kernel, as a running one shows it in /sys/kernel/btf/vmlinux.

The format is that of Documentation/bpf/btf.rst of the kernel. It is found by its header, in an ELF
file and in a raw Image alike: the latter has no sections.
"""

import struct
from pathlib import Path

__all__ = ["btf_of"]

# struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
_HEADERS = (struct.Struct("<HBBIIIII"), struct.Struct(">HBBIIIII"))
_MAGIC, _VERSION, _FLAGS = 0xEB9F, 1, 0
# A kernel's BTF has tens of thousands of types. BTF of a program that is in the kernel, and of a
# module that is built in, is smaller.
_LEAST_BYTES = 100_000


def btf_of(image: Path) -> bytes | None:
    """Return the BTF in an unpacked kernel; None if it has none."""
    data = image.read_bytes()
    found: bytes | None = None
    for header in _HEADERS:
        start = header.pack(_MAGIC, _VERSION, _FLAGS, header.size, 0, 0, 0, 0)[:12]
        at = data.find(start)
        while at >= 0:
            made = _checked(data, at, header)
            if made is not None and len(made) > len(found or b""):
                found = made
            at = data.find(start, at + 1)
    return found


def _checked(data: bytes, at: int, header: struct.Struct) -> bytes | None:
    """Return the BTF that begins at an offset, if what is there is the BTF of a kernel."""
    if at + header.size > len(data):
        return None
    _, _, _, size, type_off, type_len, str_off, str_len = header.unpack_from(data, at)
    end = at + size + str_off + str_len
    # The strings begin behind the types, with an empty one, and the last one is ended.
    if type_off or str_off != type_len or str_len < 2 or end > len(data):
        return None
    strings = data[at + size + str_off : end]
    if strings[0] or strings[-1] or end - at < _LEAST_BYTES:
        return None
    return data[at:end]
