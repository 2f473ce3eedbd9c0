"""The lines of a kernel's console that tell most of how it ended."""

import re

__all__ = ["PREFIX", "last_lines", "telling_lines"]

PREFIX = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\])?(?:\[ *[CT]\d+\])? ?")
"""What printk may put before a line: the level, the time, and the caller (CONFIG_PRINTK_CALLER)."""

_SHOWN_LINES = 12
# How the kernel begins to tell of its end, before its registers and a call trace (kernel/panic.c).
_PANIC = "Kernel panic - not syncing: "


def telling_lines(console: str) -> list[str]:
    """Return the first lines of the last panic, or else the last lines of the console."""
    lines = console.splitlines()
    panics = [number for number, line in enumerate(lines) if _PANIC in line]
    if panics:
        return lines[panics[-1] :][:_SHOWN_LINES]
    return last_lines(console, _SHOWN_LINES) if lines else []


def last_lines(text: str, count: int) -> list[str]:
    """Return the last lines of a text; where some are left out, a line before them says so."""
    lines = text.rstrip().splitlines()
    if len(lines) <= count:
        return lines
    return [f"... {len(lines) - count} lines before", *lines[-count:]]
