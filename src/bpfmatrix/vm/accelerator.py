"""The accelerator of a guest: KVM if a guest really runs under it, or else emulation.

That `/dev/kvm` can be opened, and even that a VM can be created, does not mean that a guest runs:
on some hosts that are virtual machines themselves, the guest hangs or QEMU aborts. So `choose` runs
a tiny guest under KVM, and remembers the result until the host is booted again.
"""

import contextlib
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bpfmatrix.errors import MachineError
from bpfmatrix.host import records
from bpfmatrix.host.architecture import X86_64
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.vm import sandbox

__all__ = ["Accelerator", "choose"]

# Where KVM works, the guest below takes some 0.1 s. On a virtual machine on which kernels hang
# under KVM, it took 4.9 s or more, when it came to its end at all.
_PROBE_SECONDS = 2.0
# The architectures that the guest below can probe.
_PROBED = (X86_64.name,)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# The code of a boot sector, which runs in 16-bit real mode. It writes 'K' to the port of
# isa-debugcon, and then 0 to that of isa-debug-exit, which ends QEMU with status (0 << 1) | 1
# (hw/misc/debugexit.c). If QEMU goes on, the code halts for ever.
_BOOT_CODE = bytes.fromhex("b04b e6e9 31c0 e6f4 f4 ebfd")
_EXIT_STATUS = 1


@dataclass(frozen=True)
class Accelerator:
    """`kvm` or `tcg`, and why it is not KVM. It also says if QEMU runs without its sandbox."""

    name: str
    reason: str = ""
    detail: str = ""
    """What the probe saw."""
    unprotected: str = ""
    """Why QEMU runs without its sandbox; empty if it has it."""

    def __str__(self) -> str:
        """Return the name, and the reasons in brackets."""
        without = f"no sandbox: {self.unprotected}" if self.unprotected else ""
        reasons = "; ".join(filter(None, (self.reason, without)))
        return f"{self.name} ({reasons})" if reasons else self.name


def choose(
    wanted: str, arch: str, qemu: str, cache: Cache, progress: Progress = silent
) -> Accelerator:
    """Return the accelerator for the value of `qemu.accel`: `auto`, `kvm` or `tcg`.

    MachineError if the value is `kvm`, and KVM does not run a guest.
    """
    if wanted == "tcg":
        found = Accelerator("tcg", "asked for")
    else:
        found = _probed(arch, qemu, cache, progress)
    if wanted == "kvm" and found.name != "kvm":
        raise MachineError(
            f"qemu.accel is kvm, but {found.reason.removeprefix('KVM: ')}",
            "Set it to auto or tcg, or use a host on which KVM works.",
        )
    return replace(found, unprotected=sandbox.obstacle(qemu))


def _probed(arch: str, qemu: str, cache: Cache, progress: Progress) -> Accelerator:
    if arch != platform.machine():
        return Accelerator("tcg", f"KVM: the host is {platform.machine()}")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        there = Path("/dev/kvm").exists()
        return Accelerator("tcg", f"KVM: /dev/kvm {'can not be opened' if there else 'is missing'}")
    record = cache.root / "kvm-probe.json"
    key = f"{_boot_id()} {qemu} {arch}"
    if known := _known(record, key):
        return known
    with cache.lock("kvm-probe"):
        if known := _known(record, key):  # another process probed
            return known
        if record.exists() and records.read(record) is None:
            announce(progress, "the record of the KVM probe can't be used; probing again")
        found = _probe(qemu, arch)
        records.write(record, {"key": key, "found": asdict(found)})
    return found


def _known(record: Path, key: str) -> Accelerator | None:
    """Return what an earlier probe with this key found; None if there is no such record."""
    known = records.read(record) or {}
    with contextlib.suppress(KeyError, TypeError):
        if known["key"] == key:
            return Accelerator(**known["found"])
    return None


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"


def _probe(qemu: str, arch: str) -> Accelerator:
    """Boot the boot sector under KVM, with the CPU model that real guests get."""
    if arch not in _PROBED:
        return Accelerator("tcg", f"KVM: no probe for {arch} yet")
    sector = _BOOT_CODE.ljust(510, b"\0") + b"\x55\xaa"
    floppy = os.memfd_create("bpfmatrix-probe")
    os.write(floppy, sector.ljust(1440 << 10, b"\0"))
    try:
        done = subprocess.run(
            _probe_command(qemu, floppy),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(floppy,),
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _not_run(f"it gave no sign of life within {_PROBE_SECONDS:g} s")
    except OSError as error:
        return _not_run(f"QEMU could not be started: {error.strerror}")
    finally:
        os.close(floppy)
    if done.returncode == _EXIT_STATUS and b"K" in done.stdout:
        return Accelerator("kvm")
    if done.returncode < 0:
        return _not_run(f"QEMU died of signal {-done.returncode}")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return _not_run(said[-1] if said else f"QEMU ended with status {done.returncode}")


def _probe_command(qemu: str, floppy: int) -> list[str]:
    """Return the command that boots a floppy disk, given by its descriptor."""
    return [
        qemu,
        *(() if sandbox.obstacle(qemu) else sandbox.OPTION),
        *("-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-no-reboot", "-m", "16M", "-machine", "pc"),
        *("-drive", f"if=floppy,format=raw,readonly=on,file=/proc/self/fd/{floppy}"),
        *("-chardev", "stdio,id=out", "-device", "isa-debugcon,iobase=0xe9,chardev=out"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-boot", "a"),
    ]


def _not_run(detail: str) -> Accelerator:
    return Accelerator("tcg", "KVM: a probe guest did not run", detail)
