"""A guest that is only a boot sector: code of a few bytes, which writes to a port and ends QEMU.

With it, bpfmatrix finds out what guests of this QEMU on this host are like.
"""

import os
import subprocess
from collections.abc import Sequence

from bpfmatrix.vm import sandbox

__all__ = ["EXIT_STATUS", "run"]

EXIT_STATUS = 1
"""QEMU's status after the code has written 0 to port 0xf4: (0 << 1) | 1 (hw/misc/debugexit.c)."""


def run(
    qemu: str, code: bytes, processor: Sequence[str], limit_seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run code of an x86 boot sector (at most 510 bytes, 16-bit real mode) to the end of QEMU.

    `processor` are the options `-accel` and `-cpu`. What the code writes to port 0xe9 is the
    standard output. subprocess.TimeoutExpired if it takes too long, OSError if QEMU can't start.
    """
    sector = code.ljust(510, b"\0") + b"\x55\xaa"
    floppy = os.memfd_create("bpfmatrix-probe")
    try:
        os.write(floppy, sector.ljust(1440 << 10, b"\0"))
        return subprocess.run(
            _command(qemu, floppy, processor),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(floppy,),
            timeout=limit_seconds,
            check=False,
        )
    finally:
        os.close(floppy)


def _command(qemu: str, floppy: int, processor: Sequence[str]) -> list[str]:
    return [
        qemu,
        *(() if sandbox.obstacle(qemu) else sandbox.OPTION),
        *(*processor, "-nodefaults", "-no-user-config"),
        *("-display", "none", "-no-reboot", "-m", "16M", "-machine", "pc"),
        *("-drive", f"if=floppy,format=raw,readonly=on,file=/proc/self/fd/{floppy}"),
        *("-chardev", "stdio,id=out", "-device", "isa-debugcon,iobase=0xe9,chardev=out"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-boot", "a"),
    ]
