"""The id of the host's boot, with which a record is known to be of this boot."""

from pathlib import Path

__all__ = ["boot_id"]

_FILE = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the random id that the kernel made when the host was booted."""
    try:
        return _FILE.read_text().strip()
    except OSError:
        return "unknown"
