"""QEMU's sandbox: a filter of system calls, with which QEMU can't start any program.

QEMU sets the filter up itself, before the guest runs (its option `-sandbox`). If its monitor or the
guest then makes it start a program or change its user, the host's kernel refuses that, or kills it
with SIGSYS: QEMU 10 has errors for some system calls that QEMU 7.2 is killed for.
`obstacle` finds out whether a QEMU has this option; for that, it reads QEMU's file.
"""

import errno
import functools
import mmap
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["OPTION", "is_set_by", "obstacle"]

OPTION = (
    "-sandbox",
    # `obsolete`: system calls that no C library uses any more. `elevateprivileges`: to become
    # another user. `spawn`: to start a program. `resourcecontrol`: to change the scheduling.
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
)

# QEMU has this message only if it was built without seccomp (system/vl.c, in 7.2 softmmu/vl.c).
_UNSUPPORTED = b"-sandbox support is not enabled in this QEMU binary"
# The first function of libseccomp that QEMU calls. Its name is at the beginning of the file, where
# the dynamic linker looks for it; to find that takes 0.2 ms, and to search the whole file 8 ms.
_SUPPORTED = b"seccomp_init"
# How long a script may take to have QEMU print its version.
_SECONDS = 10.0
# Arguments of seccomp(2), and its numbers (include/uapi/linux/seccomp.h, asm/unistd.h).
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1
_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "s390x": 348, "ppc64le": 358}


@functools.cache
def obstacle(qemu: str) -> str:
    """Return why this QEMU, a name or a path, can't be sandboxed; `""` if it can."""
    if not _host_has_filters():
        return "the host does not let programs filter their system calls"
    path = shutil.which(qemu)
    if path is not None and not _is_built_with_seccomp(Path(path)):
        return "this QEMU was built without seccomp"
    return ""


def is_set_by(arguments: Sequence[str]) -> bool:
    """Return whether arguments of QEMU have the option, for example to turn the sandbox off."""
    return any(argument in ("-sandbox", "--sandbox") for argument in arguments)


def _is_built_with_seccomp(qemu: Path) -> bool:
    with qemu.open("rb") as file:
        if file.read(4) == b"\x7fELF":
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
                return content.find(_SUPPORTED) >= 0 or content.find(_UNSUPPORTED) < 0
    # A script that starts QEMU, as some distributions have it.
    command = [str(qemu), *OPTION, "-version"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True  # whoever starts the machine reports that
    return done.returncode == 0


def _host_has_filters() -> bool:
    """Return whether seccomp(2) works, which the host's kernel or a container may not allow.

    If it does not, QEMU does not know the option `-sandbox`.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    match fields.get("Seccomp", "").strip():
        case "":
            return False
        case "0":  # no filter is active that could forbid it
            return True
    # As QEMU does it: a kernel that can set a filter fails to read one at the address NULL.
    number = _SECCOMP.get(platform.machine())
    if number is None:
        return True
    import ctypes  # noqa: PLC0415 - it takes 3 ms, and most hosts do not need it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(number, _SET_MODE_FILTER, _FLAG_TSYNC, None)
    return ctypes.get_errno() == errno.EFAULT
