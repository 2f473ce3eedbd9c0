#!/usr/bin/env python3
"""Tests of eBPF maps by bpf(2) alone. They report in the Test Anything Protocol."""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
CREATE, LOOKUP, UPDATE = 0, 1, 2
HASH, ARRAY, BLOOM_FILTER = 1, 2, 30


def bpf(command: int, attributes: bytes) -> int:
    """Make the system call. OSError if it fails."""
    buffer = ctypes.create_string_buffer(attributes.ljust(64, b"\0"), 64)
    result = LIBC.syscall(BPF, command, buffer, 64)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def create(kind: int, *, key: int = 4, entries: int = 2) -> int:
    """Return the descriptor of a new map with values of 8 bytes."""
    return bpf(CREATE, struct.pack("=IIIII", kind, key, 8, entries, 0))


def access(command: int, descriptor: int, key: int, value: int = 0) -> int:
    """Look an element up, or update it; return its value."""
    keys, values = ctypes.c_uint32(key), ctypes.c_uint64(value)
    places = ctypes.addressof(keys), ctypes.addressof(values)
    bpf(command, struct.pack("=IxxxxQQQ", descriptor, *places, 0))
    return values.value


def error_of(call: Callable[[], int]) -> int:
    """Return the error number with which a call fails, or 0."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def test_array_keeps_values() -> None:
    """An array gives back what was stored."""
    array = create(ARRAY)
    access(UPDATE, array, 1, 42)
    assert access(LOOKUP, array, 1) == 42
    assert access(LOOKUP, array, 0) == 0


def test_hash_is_full() -> None:
    """A hash takes no more elements than it was made for."""
    table = create(HASH, entries=1)
    access(UPDATE, table, 1)
    assert error_of(lambda: access(UPDATE, table, 2)) == errno.E2BIG


def test_bloom_filter() -> None:
    """A bloom filter has no keys; it came with Linux 5.16."""
    create(BLOOM_FILTER, key=0)


def main() -> int:
    """Run the tests; return 1 if one fails."""
    tests: tuple[Callable[[], None], ...] = (
        test_array_keeps_values,
        test_hash_is_full,
        test_bloom_filter,
    )
    print(f"TAP version 13\n1..{len(tests)}")
    failed = False
    for number, test in enumerate(tests, 1):
        name = test.__name__
        try:
            test()
        except OSError as error:
            if error.errno == errno.EINVAL and test is test_bloom_filter:
                print(f"ok {number} - {name} # SKIP {platform.release()} has no such map")
                continue
            failed = True
            print(f"not ok {number} - {name}\n# {error}")
        except AssertionError as error:
            failed = True
            print(f"not ok {number} - {name}\n# {error}")
        else:
            print(f"ok {number} - {name}")
    return 1 if failed else 0


sys.exit(main())
