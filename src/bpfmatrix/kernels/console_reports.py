"""What the kernel complains of on its console: warnings, lockdep, KASAN, stalls, oopses.

A `ReportScanner` is fed the console in pieces, and gives a `ConsoleReport` for each complaint. They
are text, which a process that is root can write too (to /dev/kmsg), so they are never a verdict by
themselves.
"""

import re
from dataclasses import dataclass

from bpfmatrix.kernels.console_log import PREFIX

__all__ = ["ConsoleReport", "ReportScanner"]

# The first lines of reports. They are from the kernel's sources: kernel/panic.c (WARNING, Oops),
# kernel/locking/lockdep.c, mm/kasan/report.c, kernel/kcsan/report.c, lib/ubsan.c, kernel/rcu/
# (stalls), kernel/hung_task.c, kernel/watchdog.c, kernel/workqueue.c, kernel/bpf/verifier.c,
# kernel/sched/core.c, mm/kmemleak.c, arch/x86 and arch/arm64 (faults).
_FIRST_LINE = (
    r"(?:"
    r"WARNING: .+|BUG: .+|kernel BUG at .+|UBSAN: .+|Oops: .+|Internal error: .+"
    r"|INFO: (?:task .+ blocked for more than|rcu_\w+ (?:self-)?detected|possible recursive).*"
    r"|rcu: (?:INFO|ERROR): .+|rcu_sched (?:self-)?detected .+"
    r"|watchdog: BUG: .+|(?:NMI )?watchdog: Watchdog detected hard LOCKUP.*"
    r"|verifier bug.*|general protection fault.*|divide error: .+|invalid opcode: .+"
    r"|Unable to handle kernel .+|unregister_netdevice: waiting .+"
    r"|kmemleak: \d+ new suspected memory leaks.*|Bad page state in process.*"
    r")$"
)
_LAST_LINE = re.compile(r"^(?:---\[ end trace .*\]---|={8,})$")
# The line before the first one of a warning.
_CUT = "------------[ cut here ]------------"
_KEPT_LINES = 12
# No line of a report is longer (printk's LOG_LINE_MAX is 992 in Linux 5.4 to 7.3).
_LINE_BYTES = 4096


@dataclass(frozen=True)
class ConsoleReport:
    """A complaint of the kernel."""

    lines: tuple[str, ...]
    """Its first lines, without the kernel's time stamps."""
    during: str = ""
    """What ran when it began."""

    @property
    def title(self) -> str:
        """Its first line."""
        return self.lines[0]


class ReportScanner:
    """Finds reports in a console that arrives in pieces."""

    def __init__(self) -> None:
        self._held = b""
        self._lines: list[str] = []
        self._during = ""

    def feed(self, data: bytes, during: str = "") -> list[ConsoleReport]:
        """Take the next bytes, which the kernel printed while `during` ran.

        Returns the reports that are complete now.
        """
        *lines, self._held = (self._held + data).split(b"\n")
        self._held = self._held[-_LINE_BYTES:]
        found: list[ConsoleReport] = []
        for line in lines:
            found += self._take(PREFIX.sub("", line.decode(errors="replace").rstrip()), during)
        return found

    def close(self) -> list[ConsoleReport]:
        """Return the report that the console ended within."""
        return [*self.feed(b"\n"), *self._complete()]

    def _take(self, line: str, during: str) -> list[ConsoleReport]:
        if not self._lines:
            if re.match(_FIRST_LINE, line):  # compiled by the first line: few runs have any
                self._lines, self._during = [line], during
            return []
        if line == _CUT:
            return self._complete()
        # A report may have several first lines: in an oops, `Oops: ` comes after `BUG: `.
        self._lines.append(line)
        done = len(self._lines) >= _KEPT_LINES or _LAST_LINE.match(line)
        return self._complete() if done else []

    def _complete(self) -> list[ConsoleReport]:
        lines, self._lines = tuple(filter(None, self._lines)), []
        return [ConsoleReport(lines, self._during)] if lines else []
