"""What a kernel complains of on its console, in texts as real kernels print them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.kernels.console_reports import ReportScanner

# From Linux 6.1 and 6.12, shortened in the middle.
WARNING = """\
[    4.100000] ------------[ cut here ]------------
[    4.100100] WARNING: CPU: 1 PID: 86 at kernel/bpf/verifier.c:2024 check_cond+0x12/0x20
[    4.100200] Modules linked in: virtio_blk
[    4.100300] CPU: 1 PID: 86 Comm: support.test Not tainted 6.1.0-56-cloud-amd64 #1
[    4.100400] ---[ end trace 0000000000000000 ]---
"""
LOCKDEP = """\
[   12.000001] ======================================================
[   12.000002] WARNING: possible circular locking dependency detected
[   12.000003] 6.12.0 #1 Not tainted
[   12.000004] ------------------------------------------------------
"""
KASAN = """\
[    9.1] ==================================================================
[    9.2] BUG: KASAN: slab-out-of-bounds in bpf_patch_insn_data+0x1/0x2
[    9.3] Read of size 8 at addr ffff888000000000 by task x/9
[    9.4] ==================================================================
"""
OOPS = """\
[    7.1] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    7.2] #PF: supervisor write access in kernel mode
[    7.3] Oops: 0002 [#1] PREEMPT SMP NOPTI
[    7.4] ---[ end trace 0000000000000000 ]---
"""
ONE_LINE = [
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "INFO: task touch:96 blocked for more than 1 seconds.",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 3s! [hostile:88]",
    "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1",
    "verifier bug: REG INVARIANTS VIOLATION (true_reg1): range bounds violation",
    "UBSAN: array-index-out-of-bounds in kernel/bpf/verifier.c:1:2",
    "BUG: KCSAN: data-race in a / b",
    "BUG: sleeping function called from invalid context at mm/slab.h:1",
    "general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
    "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000",
    "kernel BUG at mm/slub.c:1!",
]
HARMLESS = """\
[    3.9] EXT4-fs (vda): mounted filesystem without journal. Quota mode: none.
[    4.0] **   NOTICE NOTICE NOTICE NOTICE NOTICE NOTICE NOTICE   **
[    4.1] hostile (88): drop_caches: 3
[    4.2] x86/mm: Checked W+X mappings: passed, no W+X pages found.
[    4.3] this line says WARNING: in its middle
"""


def titles(text: str) -> list[str]:
    scanner = ReportScanner()
    found = [*scanner.feed(text.encode()), *scanner.close()]
    return [report.title for report in found]


@pytest.mark.parametrize(
    ("text", "title", "lines"),
    [
        (WARNING, "WARNING: CPU: 1 PID: 86 at kernel/bpf/verifier.c:2024", 4),
        (LOCKDEP, "WARNING: possible circular locking dependency detected", 3),
        (KASAN, "BUG: KASAN: slab-out-of-bounds in", 3),
        (OOPS, "BUG: kernel NULL pointer dereference", 4),
    ],
)
def test_a_report_has_its_first_lines(text: str, title: str, lines: int) -> None:
    scanner = ReportScanner()
    [report] = [*scanner.feed(HARMLESS.encode() + text.encode()), *scanner.close()]
    assert report.title.startswith(title)
    assert len(report.lines) == lines
    assert not any(line.startswith("[") for line in report.lines)


@pytest.mark.parametrize("line", ONE_LINE)
def test_a_report_of_each_kind_is_found(line: str) -> None:
    assert titles(f"[   10.123456][  T123] {line}\r\n") == [line]


def test_what_is_no_complaint_is_left_out() -> None:
    assert titles(HARMLESS) == []


def test_two_warnings_are_two_reports() -> None:
    assert len(titles(WARNING + WARNING)) == 2


def test_a_report_belongs_to_what_ran_when_it_began() -> None:
    scanner = ReportScanner()
    first, second = WARNING.encode()[:200], WARNING.encode()[200:]
    assert scanner.feed(first, "TestOne") == []
    [report] = scanner.feed(second, "TestTwo")
    assert report.during == "TestOne"


def test_a_flood_takes_little_memory() -> None:
    scanner = ReportScanner()
    for _ in range(100):
        assert scanner.feed(b"x" * 100_000) == []
    assert len(scanner._held) < 10_000


@given(st.data())
def test_reports_do_not_depend_on_the_pieces_that_arrive(data: st.DataObject) -> None:
    text = (HARMLESS + WARNING + HARMLESS + LOCKDEP + KASAN).encode()
    scanner, found, at = ReportScanner(), [], 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text)))
        found += scanner.feed(text[at : at + size])
        at += size
    found += scanner.close()
    whole = ReportScanner()
    assert found == [*whole.feed(text), *whole.close()]
    assert len(found) == 3
