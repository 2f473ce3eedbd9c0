"""Time limits of guests. Those of kernels.yaml are for KVM, and longer under emulation.

So one kernels.yaml suits all hosts. A limit that is given on the command line is taken as it is.
"""

from dataclasses import dataclass

__all__ = ["EMULATION_FACTOR", "Limit", "declared"]

EMULATION_FACTOR = 10.0
"""How many times as long a limit is under emulation. QEMU's TCG takes 8 to 20 times as long as KVM
for the same work, depending on the host; what waits for a device or for a timer, as long."""


@dataclass(frozen=True)
class Limit:
    """A time limit, and where it comes from."""

    seconds: float
    origin: str
    """The option, or the key of kernels.yaml, that sets it."""
    note: str = ""
    """Why it is not the value that is set there."""

    def __str__(self) -> str:
        """Return the limit with its origin, such as `60 s (timeout.test)`."""
        note = f": {self.note}" if self.note else ""
        return f"{self.seconds:g} s ({self.origin}{note})"


def declared(seconds: float, key: str, accelerator: str) -> Limit:
    """Return the limit that a key of kernels.yaml sets, for guests with this accelerator."""
    if accelerator != "tcg":
        return Limit(seconds, key)
    note = f"{seconds:g} s, {EMULATION_FACTOR:g} times as long under emulation"
    return Limit(seconds * EMULATION_FACTOR, key, note)
