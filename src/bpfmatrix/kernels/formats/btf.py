"""The BTF of a kernel, as a running one shows it in /sys/kernel/btf/vmlinux.

The format is that of Documentation/bpf/btf.rst of the kernel. It is found by its header, in an ELF
file and in a raw Image alike: the latter has no sections.
"""

import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from bpfmatrix.kernels.formats.compression import BadDataError, decompress

__all__ = ["btf_of"]

# struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
_HEADERS = (struct.Struct("<HBBIIIII"), struct.Struct(">HBBIIIII"))
_MAGIC, _VERSION, _FLAGS = 0xEB9F, 1, 0
# zstd, gzip, xz and lz4, as `compression` names them, with a byte more of gzip (RFC 1952: deflate).
_PACKED = (b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x02!L\x18")
# A kernel's BTF has tens of thousands of types. BTF of a program that is in the kernel, and of a
# module that is built in, is smaller.
_LEAST_BYTES = 100_000


def btf_of(image: Path) -> bytes | None:
    """Return the BTF in a kernel; None if it has none.

    A kernel that is stored packed, such as those of s390x, is unpacked for that.
    """
    data = image.read_bytes()
    return _largest(data) or next(filter(None, map(_largest, _unpacked(data))), None)


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Give what is packed in a kernel; what looks like it by chance is left out."""
    for magic in _PACKED:
        for match in re.finditer(re.escape(magic), data):
            with contextlib.suppress(BadDataError):
                yield decompress(data[match.start() :])


def _largest(data: bytes) -> bytes | None:
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
