"""Confinement of a process that writes files of the host for a guest.

`drop_capabilities` takes from a server that root runs what makes root's files different from those
of other users. It is enough for our own virtiofs server, which checks all else by itself. QEMU's 9p
server does what the guest asks for, so QEMU is started by `command` if a folder can be written over
9p: a filter of system calls (seccomp) then refuses what would leave a file with more rights than a
plain one. libseccomp makes the filter; QEMU's own sandbox needs that library too.
"""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence

__all__ = ["command", "drop_capabilities"]

# include/uapi/linux/capability.h: CAP_CHOWN, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP. Without
# CAP_FSETID, a write to a file removes its setuid and setgid bits, as it does for other users.
_DROPPED = sum(1 << number for number in (0, 4, 27, 31))
_CAPABILITY_VERSION_3 = 0x20080522

# include/seccomp.h of libseccomp
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_MASKED_EQUAL = 7
# For each system call, the number of its argument that is a mode.
_CHANGING_MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
_CREATING = {"creat": 1, "open": 2, "openat": 3, "mkdir": 1, "mkdirat": 2}
_MAKING_NODES = {"mknod": 1, "mknodat": 2}
_CHANGING_OWNERS = ("chown", "lchown", "fchown", "fchownat")
_SETTING_XATTRS = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")
# Its mode is in memory, where no filter can look. The C library has other calls for the same.
_OPAQUE = ("openat2",)


class _Capabilities(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32)]
    _fields_ += [("inheritable", ctypes.c_uint32)]


class _Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operation", ctypes.c_int)]
    _fields_ += [("mask", ctypes.c_uint64), ("value", ctypes.c_uint64)]


def command(words: Sequence[str]) -> list[str]:
    """Return the command that runs another one, confined. It fails if libseccomp is missing."""
    return [sys.executable, "-m", "bpfmatrix.virtiofs.confinement", *words]


def drop_capabilities() -> None:
    """Give up root's rights to change owners, to make devices, and to keep setuid bits."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)  # 0: this thread
    halves = (_Capabilities * 2)()
    if libc.capget(header, halves) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for name in ("effective", "permitted", "inheritable"):
        setattr(halves[0], name, getattr(halves[0], name) & ~_DROPPED)
    if libc.capset(header, halves) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _rules() -> Iterator[tuple[int, str, int, int, int]]:
    """Give what is refused: an error, a system call, and the value of an argument below a mask."""
    for name, argument in {**_CHANGING_MODES, **_CREATING, **_MAKING_NODES}.items():
        for bit in (stat.S_ISUID, stat.S_ISGID):
            yield errno.EPERM, name, argument, bit, bit
    for name, argument in _MAKING_NODES.items():
        # A program of the host that opens a FIFO to read it waits for ever.
        for kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
            yield errno.EPERM, name, argument, 0o170000, kind
    for number, names in (
        (errno.EPERM, _CHANGING_OWNERS),
        (errno.EOPNOTSUPP, _SETTING_XATTRS),
        (errno.ENOSYS, _OPAQUE),
    ):
        for name in names:
            yield number, name, 0, 0, 0  # any value


def _filter_system_calls() -> None:
    """Set the filter up for this process, and for the program that it becomes."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    # It also sets PR_SET_NO_NEW_PRIVS, so that capabilities that were dropped do not come back.
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    for number, name, argument, mask, value in _rules():
        call = library.seccomp_syscall_resolve_name(name.encode())
        if call == -1:  # this libseccomp is older than the call, or the architecture has none
            continue
        compared = _Comparison(argument, _MASKED_EQUAL, mask, value)
        action = ctypes.c_uint32(_ERRNO | number)
        failed = library.seccomp_rule_add_array(context, action, call, 1, ctypes.byref(compared))
        if failed:
            raise OSError(-failed, f"seccomp_rule_add_array: {name}")
    if failed := library.seccomp_load(context):
        raise OSError(-failed, "seccomp_load")


def _main(words: list[str]) -> None:
    try:
        drop_capabilities()
        _filter_system_calls()
    except OSError as error:
        raise SystemExit(f"a folder can't be shared to be written over 9p: {error}") from None
    os.execvp(words[0], words)  # noqa: S606


if __name__ == "__main__":
    _main(sys.argv[1:])
