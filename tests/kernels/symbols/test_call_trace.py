import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.kernels.symbols import Symbols, call_trace, elf
from bpfmatrix.kernels.symbols.call_trace import Frame

# As Debian's 6.1, 5.10 and an arm64 kernel print them; shortened.
PANIC = """\
[    6.361458] sysrq: Trigger a crash
[    7.742560] Kernel panic - not syncing: sysrq triggered crash
[    7.742866] CPU: 1 PID: 100 Comm: crash Not tainted 6.1.0-56-cloud-amd64 #1  Debian 6.1.192-2
[    7.746123] Call Trace:
[    7.746123]  <TASK>
[    7.746123]  panic+0x118/0x2f4
[    7.746123]  ? _printk+0x68/0x83
[    7.746123]  sysrq_handle_crash+0x16/0x20
[    7.746123]  __handle_sysrq.cold+0x44/0x11c
[    7.746123] RIP: 0033:0x47b7a0
[    7.746123] Code: 40 00 48 c7 c2 e0 ff ff
[    7.746123]  </TASK>
[    7.746123] Kernel Offset: 0x1a000000 from 0xffffffff81000000
"""
OOPS = """\
[    3.100000][  T112] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    3.100001][  T112] Oops: 0000 [#1] PREEMPT SMP NOPTI
[    3.100002][  T112] RIP: 0010:broken_init+0x4/0x1000 [oops]
[    3.100003][  T112] Code: Unable to access opcode bytes
[    3.100004][  T112] Call Trace:
[    3.100005][  T112]  <TASK>
[    3.100006][  T112]  do_one_initcall+0x56/0x220
[    3.100007][  T112]  do_init_module+0x4a/0x1f0
[    3.100008][  T112]  </TASK>
[    3.100009][  T112] RIP: 0010:broken_init+0x4/0x1000 [oops]
[    3.100010][  T112] Kernel panic - not syncing: Fatal exception
[    3.100011][  T112] Call Trace:
[    3.100012][  T112]  panic+0x118/0x2f4
"""
ARM64 = """\
[    2.000000] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000
[    2.000001] pc : sysrq_handle_crash+0x24/0x30
[    2.000002] lr : sysrq_handle_crash+0x1c/0x30
[    2.000003] Call trace:
[    2.000004]  sysrq_handle_crash+0x24/0x30 (P)
[    2.000005]  __handle_sysrq+0x9c/0x1a0
[    2.000006] Code: 52800020 b9000000
"""
# Of Debian's 6.12; shortened.
S390X = """\
[   69.692339] Kernel panic - not syncing: sysrq triggered crash
[   69.698445] Call Trace:
[   69.698753]  [<000003ffff4016de>] dump_stack_lvl+0x76/0xa0$
[   69.699031]  [<000003ffff3f4ed8>] panic+0x118/0x318$
[   69.699096] ([<000003ffff0426a2>] __handle_sysrq+0xaa/0x1a0)
[   69.700000] Last Breaking-Event-Address:
""".replace("$", " ")
RISCV64 = """\
[    2.000000] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000
[    2.000001] epc : sysrq_handle_crash+0x24/0x30
[    2.000002]  ra : sysrq_handle_crash+0x1c/0x30
[    2.000003] Call Trace:
[    2.000004] [<ffffffff80a78d9c>] schedule+0x24/0xd4
[    2.000005] [<ffffffff803182f6>] vfs_write+0x1ec/0x3ba [ext4]
[    2.000006] ---[ end trace 0000000000000000 ]---
"""
PPC64LE = """\
[    2.000000] BUG: Kernel NULL pointer dereference on write at 0x00000000
[    2.000001] NIP [c0000000009d3c14] sysrq_handle_crash+0x24/0x30
[    2.000002] LR [c0000000009d4b08] __handle_sysrq+0xf8/0x2b0
[    2.000003] Call Trace:
[    2.000004] [c00000000a7fbb30] [c0000000009d4aec] __handle_sysrq+0xdc/0x2b0 (unreliable)
[    2.000005] [c00000000a7fbbc0] [c0000000009d5a24] write_sysrq_trigger+0xd4/0x1b4
[    2.000006] --- interrupt: 3000 at 0x7fff8d4b3f28
"""


def test_traces_of_other_architectures() -> None:
    assert places(S390X) == [
        "dump_stack_lvl+0x76/0xa0",
        "panic+0x118/0x318",
        "__handle_sysrq+0xaa/0x1a0",
    ]
    assert places(RISCV64) == [
        "sysrq_handle_crash+0x24/0x30",
        "schedule+0x24/0xd4",
        "vfs_write+0x1ec/0x3ba [ext4]",
    ]
    assert places(PPC64LE) == [
        "sysrq_handle_crash+0x24/0x30",
        "__handle_sysrq+0xdc/0x2b0",
        "write_sysrq_trigger+0xd4/0x1b4",
    ]
    psw = "Krnl PSW : 0704c00180000000 000003ffff042682 (sysrq_handle_crash+0x2a/0x38)"
    assert places(f"Oops: 0004 ilc:2 [#1] SMP\n{psw}\n") == ["sysrq_handle_crash+0x2a/0x38"]


def places(console: str) -> list[str]:
    return [frame.place for frame in call_trace.find(console)]


def test_traces_as_kernels_print_them() -> None:
    assert places(PANIC) == [
        "panic+0x118/0x2f4",
        "sysrq_handle_crash+0x16/0x20",
        "__handle_sysrq.cold+0x44/0x11c",
    ]
    assert places(PANIC.replace("\n", "\r\n")) == places(PANIC)
    assert places(OOPS) == [
        "broken_init+0x4/0x1000 [oops]",
        "do_one_initcall+0x56/0x220",
        "do_init_module+0x4a/0x1f0",
    ]
    assert [frame.interrupted for frame in call_trace.find(OOPS)] == [True, False, False]
    assert places(ARM64)[0] == "sysrq_handle_crash+0x24/0x30"
    assert places(ARM64)[-1] == "__handle_sysrq+0x9c/0x1a0"


@pytest.mark.parametrize("text", ["", "Call Trace:\n f+0x1/0x2\n", "BUG: something\n"])
def test_no_trace(text: str) -> None:
    assert call_trace.find(text) == []


@given(st.text(), st.sampled_from([PANIC, OOPS, ARM64]))
def test_whatever_a_console_has(noise: str, text: str) -> None:
    assert call_trace.find(noise + "\n" + text)
    call_trace.find(text[: len(noise)] + noise)


SOURCE = """\
int twice(int x) { return x + x; }
__attribute__((noinline)) int inner(int x)
{
	__asm__ volatile("nop");
	return twice(x);
}
__attribute__((noinline)) int outer(int x)
{
	int y = inner(x);

	return y + 1;
}
void _start(void) { outer(1); }
"""


@pytest.fixture
def vmlinux(tmp_path: Path) -> Path:
    """A program with DWARF, of a source in a folder like a kernel's."""
    source = tmp_path / "linux/kernel/bpf/thing.c"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    made = tmp_path / "vmlinux"
    command = [
        "gcc",
        "-g",
        "-O1",
        "-fno-inline-functions",
        "-nostdlib",
        "-static",
        "-Wl,--build-id",
    ]
    subprocess.run([*command, "-o", made, source], check=True)
    return made


def test_files_and_lines(vmlinux: Path, tmp_path: Path) -> None:
    by_name = {symbol.name: symbol for symbol in elf.symbols(vmlinux)}
    outer, inner = by_name["outer"], by_name["inner"]
    # Where outer() goes on behind its call, by the disassembly.
    said = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", vmlinux], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"call\s+\w+ <inner>\n\s*([0-9a-f]+):", said)
    assert match
    frames = [
        Frame("inner", 0, inner.size, interrupted=True),
        Frame("outer", int(match[1], 16) - outer.address, outer.size),
        Frame("unheard_of", 4, 8),
        Frame("outer", 0, outer.size, module="another"),
    ]
    known = call_trace.located(frames, Symbols(vmlinux, tmp_path / "linux"))
    first, *others = [frame.location for frame in known]
    # Which of a function's first lines its first instruction belongs to, compilers differ on.
    assert re.fullmatch(r"kernel/bpf/thing\.c:[234]", first)
    assert others == ["kernel/bpf/thing.c:9", "", ""]
    # Without knowing where the tree is or was.
    assert call_trace.located(frames, Symbols(vmlinux, None))[1].location == "kernel/bpf/thing.c:9"
    assert call_trace.formatted(known)[0].startswith("inner+0x0/")
