"""Runs a command on a host that does not let programs filter their system calls.

For the command and its children, seccomp(2) fails with ENOSYS, as in some containers.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Sequence

__all__ = ["command"]


def command(words: Sequence[str]) -> list[str]:
    """Return the command that runs another one so."""
    return [sys.executable, __file__, *words]


if __name__ == "__main__":
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x7FFF0000)))  # allow
    call = library.seccomp_syscall_resolve_name(b"seccomp")
    refused = ctypes.c_uint32(0x00050000 | errno.ENOSYS)
    assert library.seccomp_rule_add_array(context, refused, call, 0, None) == 0
    assert library.seccomp_load(context) == 0
    os.execvp(sys.argv[1], sys.argv[1:])
