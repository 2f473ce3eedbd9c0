"""Decompression of kernels and modules; the format is recognised by its magic number.

`decompress` takes bytes and returns bytes. Whatever the input is, the only error is
`BadDataError`: callers know the name of the file, and make a sentence of it.
"""

import bz2
import lzma
import struct
import zlib
from typing import Protocol

__all__ = ["BadDataError", "decompress", "format_of"]

# A vmlinux without debug information has 20 to 80 MB, with KASAN up to 200. Data that unpacks to
# more than this limit is damaged or hostile.
LIMIT_BYTES = 512 << 20

# The magic numbers of the kernel's lib/decompress.c (`compressed_formats`). That table has only the
# first two bytes of lzma; the third is zero for each dictionary size that the kernel's build and
# xz(1) use.
_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x5d\x00\x00": "lzma",
    b"\xfd7zXZ\x00": "xz",
    b"\x89LZO": "lzo",
    b"\x02!L\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# The largest unpacked size of a block in lz4's legacy format
# (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md, "Legacy frame").
_LZ4_BLOCK_BYTES = 8 << 20


class BadDataError(ValueError):
    """The data is malformed; the text says how, and its subject is "it" or "its ... data"."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def format_of(data: bytes) -> str | None:
    """Return the format of compressed data, by its first bytes; None if it is not compressed."""
    return next((name for magic, name in _MAGICS.items() if data.startswith(magic)), None)


def decompress(data: bytes, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Decompress one stream; bytes behind its end are ignored. Raises BadDataError, no MemoryError.

    On x86, such bytes are the unpacked size, which the kernel's build appends to every format but
    gzip (arch/x86/boot/compressed/Makefile, `size_append`).
    """
    name = format_of(data)
    try:
        match name:
            case "gzip":
                return _bounded(_Gzip(), data, name, limit_bytes)
            case "bzip2":
                return _bounded(bz2.BZ2Decompressor(), data, name, limit_bytes)
            case "xz" | "lzma":
                kind = lzma.FORMAT_XZ if name == "xz" else lzma.FORMAT_ALONE
                stream = lzma.LZMADecompressor(kind, memlimit=limit_bytes)
                return _bounded(stream, data, name, limit_bytes)
            case "lz4":
                return _lz4(data, limit_bytes)
            case "zstd":
                return _zstd(data, limit_bytes)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        if isinstance(error, BadDataError):
            raise
        raise BadDataError(f"its {name} data is damaged ({error})") from error
    if name == "lzo":
        raise BadDataError("it is compressed with lzo, which is not supported")
    raise BadDataError("its compression format is unknown")


class _Gzip:
    """`zlib.decompressobj` with the interface of the decompressors of bz2 and lzma."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        return self._stream.decompress(data, max_length)


def _bounded(stream: _Decompressor, data: bytes, name: str, limit_bytes: int) -> bytes:
    result = stream.decompress(data, limit_bytes + 1)
    if len(result) > limit_bytes:
        raise BadDataError(f"it unpacks to more than {limit_bytes >> 20} MiB")
    if not stream.eof:
        raise BadDataError(f"its {name} data ends too early")
    return result


def _lz4(data: bytes, limit_bytes: int) -> bytes:
    import lz4.block  # type: ignore[import-untyped]  # noqa: PLC0415 - off the start-up path

    parts, total, at = [], 0, 4
    # lz4's legacy format has no end mark. Four bytes that are left are the size that x86 appends.
    while len(data) - at > 4:
        (packed,) = struct.unpack_from("<I", data, at)
        at += 4
        if packed == 0 or packed > len(data) - at:
            raise BadDataError("its lz4 data ends too early")
        try:
            part = lz4.block.decompress(data[at : at + packed], uncompressed_size=_LZ4_BLOCK_BYTES)
        except lz4.block.LZ4BlockError as error:
            raise BadDataError(f"its lz4 data is damaged ({error})") from error
        at, total = at + packed, total + len(part)
        if total > limit_bytes:
            raise BadDataError(f"it unpacks to more than {limit_bytes >> 20} MiB")
        parts.append(part)
    if not parts:
        raise BadDataError("its lz4 data ends too early")
    if len(data) - at == 4 and struct.unpack_from("<I", data, at)[0] != total & 0xFFFFFFFF:
        raise BadDataError("its lz4 data does not have the size that it declares")
    return b"".join(parts)


def _zstd(data: bytes, limit_bytes: int) -> bytes:
    import zstandard  # noqa: PLC0415 - off the start-up path

    stream, parts, total = zstandard.ZstdDecompressor().decompressobj(), [], 0
    try:
        # zstandard's stream reader limits its output, but does not notice a truncated frame. A
        # decompressobj notices it, but has no limit, so it is given little input at a time: 1024
        # bytes unpack to 32 MiB at most, as a block of 4 bytes stands for up to 128 KiB (RFC 8878,
        # 3.1.1.2.3).
        for at in range(0, len(data), 1024):
            parts.append(stream.decompress(data[at : at + 1024]))
            total += len(parts[-1])
            if total > limit_bytes:
                raise BadDataError(f"it unpacks to more than {limit_bytes >> 20} MiB")
            if stream.eof:
                return b"".join(parts)
    except zstandard.ZstdError as error:
        raise BadDataError(f"its zstd data is damaged ({error})") from error
    raise BadDataError("its zstd data ends too early")
