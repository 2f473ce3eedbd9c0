"""The time-stamp counter (TSC) of emulated x86 processors: its frequency, as a guest sees it.

QEMU passes on the counter of the host's processor. A kernel measures its frequency while it boots,
and on a busy host it may be far off, for good. So `frequency_khz` measures it once, with a guest of
a few bytes of which only undisturbed samples count, and kernels are told the result.
"""

import contextlib
import platform
import struct
import subprocess
from pathlib import Path

from bpfmatrix.host import records
from bpfmatrix.host.architecture import X86_64
from bpfmatrix.host.boot_id import boot_id
from bpfmatrix.host.cache import Cache
from bpfmatrix.vm import boot_sector, parts

__all__ = ["TOLD_SINCE", "frequency_khz", "measure_khz"]

TOLD_SINCE = (5, 10)
"""From this release on, kernels have the parameter `tsc_early_khz`; 5.4 does not."""

# The guest below takes 0.4 s, and on a busy host longer. The PM timer turns over after 4.69 s.
_LIMIT_SECONDS = 4.5
# A measurement is exact to 10 ppm. A new one that differs by less than this changes nothing.
_SAME = 2e-4

# The code of a boot sector, which runs in 16-bit real mode. It takes 500 samples, each of which is
# the TSC, ACPI's PM timer, and the TSC again; 20 bytes that go to the port of isa-debugcon.
# SeaBIOS puts the registers of ACPI at 0x600, and the PM timer is 8 bytes after that.
_CODE = bytes.fromhex(
    "31c0 8ed8 8ec0 fc"  #           xor ax, ax; mov ds, ax; mov es, ax; cld
    "bbf401"  #                      mov bx, 500
    "bf0006"  #              sample: mov di, 0x600
    "0f31 66ab 6692 66ab"  #         rdtsc; stosd; xchg eax, edx; stosd
    "ba0806 66ed 66ab"  #            mov dx, 0x608; in eax, dx; stosd
    "0f31 66ab 6692 66ab"  #         rdtsc; stosd; xchg eax, edx; stosd
    "be0006 b91400 bae900 f36e"  #   mov si, 0x600; mov cx, 20; mov dx, 0xe9; rep outsb
    "4b 75d8"  #                     dec bx; jnz sample
    "31c0 e6f4 f4"  #                xor ax, ax; out 0xf4, al; hlt
)
_SAMPLE = struct.Struct("<QIQ")
# The PM timer counts at this frequency, and has 24 bits (ACPI 6.5, section 4.8.3.3).
_PM_TIMER_HZ = 3_579_545
_PM_TIMER_MASK = (1 << 24) - 1


def frequency_khz(qemu: str, cache: Cache) -> int:
    """Return the frequency of the TSC in guests of this QEMU, which must emulate x86.

    0 if the frequency is not constant on this host, or could not be measured now. It is measured
    once for each boot of the host.
    """
    if not _is_constant():
        return 0
    record = cache.root / "tsc-probe.json"
    key = f"{boot_id()} {qemu}"
    known = _known(record)
    if known.get("key") == key:
        return int(known["khz"])
    with cache.lock("tsc-probe"):
        known = _known(record)
        if known.get("key") != key:  # no other process has measured meanwhile
            khz, before = measure_khz(qemu), int(known.get("khz", 0))
            if not khz:  # the host is too busy now
                return 0
            # Templates are made for one frequency: a reboot of the host should not lose them.
            if abs(khz - before) < before * _SAME:
                khz = before
            known = {"key": key, "khz": khz}
            records.write(record, known)
    return int(known["khz"])


def _known(record: Path) -> dict[str, str | int]:
    return records.read(record) or {}


def _is_constant() -> bool:
    """Return whether the host's processor counts at one rate, and in all states."""
    if platform.machine() != X86_64.name:
        return False
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return {"constant_tsc", "nonstop_tsc"} <= set(line.split())
    return False


def measure_khz(qemu: str) -> int:
    """Measure the frequency of the TSC in a guest of this QEMU; 0 if that fails."""
    processor = parts.Processor(X86_64.name, "tcg").qemu_args()
    try:
        done = boot_sector.run(qemu, _CODE, processor, _LIMIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    if done.returncode != boot_sector.EXIT_STATUS or len(done.stdout) % _SAMPLE.size:
        return 0
    return _khz_of(list(_SAMPLE.iter_unpack(done.stdout)))


def _khz_of(samples: list[tuple[int, int, int]]) -> int:
    """Return the frequency that samples show; 0 if there are too few.

    If a sample was interrupted, there is more time between its two readings of the TSC. So only the
    shortest of the first and of the last third count.
    """
    third = len(samples) // 3
    if third == 0:
        return 0
    first, last = (
        min(some, key=lambda sample: sample[2] - sample[0])
        for some in (samples[:third], samples[-third:])
    )
    ticks = (last[1] - first[1]) & _PM_TIMER_MASK
    if ticks == 0:
        return 0
    cycles = (last[0] + last[2] - first[0] - first[2]) / 2
    return round(cycles * _PM_TIMER_HZ / ticks / 1000)
