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
from bpfmatrix.host.boot_id import boot_id
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.vm import boot_sector, sandbox

__all__ = ["Accelerator", "choose"]

# Where KVM works, the guest below takes some 0.1 s. On a virtual machine on which kernels hang
# under KVM, it took 4.9 s or more, when it came to its end at all.
_PROBE_SECONDS = 2.0
# The architectures that the guest below can probe.
_PROBED = (X86_64.name,)

# The code of a boot sector, which runs in 16-bit real mode. It writes 'K' to the port of
# isa-debugcon, and then 0 to that of isa-debug-exit, which ends QEMU. If QEMU goes on, the code
# halts for ever.
_BOOT_CODE = bytes.fromhex("b04b e6e9 31c0 e6f4 f4 ebfd")


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
            f"accel is kvm, but {found.reason.removeprefix('KVM: ')}",
            "Choose tcg, which is emulation, or use a host on which KVM works.",
        )
    return replace(found, unprotected=sandbox.obstacle(qemu))


def _probed(arch: str, qemu: str, cache: Cache, progress: Progress) -> Accelerator:
    if arch != platform.machine():
        return Accelerator("tcg", f"KVM: the host is {platform.machine()}")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        there = Path("/dev/kvm").exists()
        return Accelerator("tcg", f"KVM: /dev/kvm {'can not be opened' if there else 'is missing'}")
    record = cache.root / "kvm-probe.json"
    key = f"{boot_id()} {qemu} {arch}"
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


def _probe(qemu: str, arch: str) -> Accelerator:
    """Boot the boot sector under KVM."""
    if arch not in _PROBED:
        return Accelerator("tcg", f"KVM: no probe for {arch} yet")
    try:
        # Real guests get this CPU model too.
        processor = ("-accel", "kvm", "-cpu", "host")
        done = boot_sector.run(qemu, _BOOT_CODE, processor, _PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return _not_run(f"it gave no sign of life within {_PROBE_SECONDS:g} s")
    except OSError as error:
        return _not_run(f"QEMU could not be started: {error.strerror}")
    if done.returncode == boot_sector.EXIT_STATUS and b"K" in done.stdout:
        return Accelerator("kvm")
    if done.returncode < 0:
        return _not_run(f"QEMU died of signal {-done.returncode}")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return _not_run(said[-1] if said else f"QEMU ended with status {done.returncode}")


def _not_run(detail: str) -> Accelerator:
    return Accelerator("tcg", "KVM: a probe guest did not run", detail)
