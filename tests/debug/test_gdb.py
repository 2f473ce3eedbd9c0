"""What gdb is asked about a vmlinux before a session, and that it is asked once."""

import os
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.symbols import Symbols

SOURCE = """
__attribute__((section(".init.text"), noinline)) void start_kernel(void) { __asm__("nop"); }
__attribute__((noinline)) void do_check(void) { __asm__("nop"); }
void _start(void) { start_kernel(); do_check(); }
"""
# The kernel's own linker script sets these around its section .init.text.
LIMITS = ("-Wl,--defsym=_sinittext=start_kernel", "-Wl,--defsym=_einittext=start_kernel+64")


@pytest.fixture
def gdb(tmp_path: Path) -> Gdb:
    """Compile a file that is like a vmlinux, and return a gdb for it."""
    vmlinux = tmp_path / "vmlinux"
    options = ("-x", "c", "-", "-g", "-O1", "-nostdlib", "-static", *LIMITS)
    subprocess.run(["gcc", *options, "-o", vmlinux], input=SOURCE, text=True, check=True)
    symbols = Symbols(vmlinux, None)
    return Gdb.find("x86_64", symbols, Cache(tmp_path / "cache"), tmp_path / "debug")


def test_which_breakpoints_are_reached_only_while_the_kernel_boots(gdb: Gdb) -> None:
    assert gdb.initial(()) == ()
    assert gdb.initial(("do_check", "start_kernel", "rejection")) == ("start_kernel",)


def test_a_person_has_the_prompt_in_a_core_file(gdb: Gdb, tmp_path: Path) -> None:
    core = tmp_path / "core"
    words = ["-nx", "-batch", "-ex", "break do_check", "-ex", "run", "-ex", f"gcore {core}"]
    subprocess.run([gdb.program, *words, gdb.symbols.vmlinux], capture_output=True, check=True)
    command = gdb._command(gdb.write_for_core(core, 0), ("-nx",), batch=False)
    done = subprocess.run(
        command, input="print 6 * 7\n", capture_output=True, text=True, check=False
    )
    assert "$1 = 42\n" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_gdb_is_asked_once_about_each_vmlinux(gdb: Gdb, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = Gdb._ask

    def count(self: Gdb, python: str) -> "subprocess.CompletedProcess[str]":
        asked.append(python)
        return ask(self, python)

    monkeypatch.setattr(Gdb, "_ask", count)
    first = gdb.resolve(("do_check",))
    assert (gdb.resolve(("do_check",)), gdb.initial(("do_check",))) == (first, ())
    assert len(asked) == 1
    gdb.resolve(("start_kernel",))
    assert len(asked) == 2
    os.utime(gdb.symbols.vmlinux, (1, 1))
    gdb.resolve(("do_check",))
    assert len(asked) == 3


def test_a_damaged_answer_is_asked_for_again(gdb: Gdb) -> None:
    first = gdb.resolve(("do_check",))
    [record] = (gdb.cache.root / "symbols/index").glob("*.json")
    record.write_text(record.read_text().replace("do_check", "do_chuck"))
    assert gdb.resolve(("do_check",)) == first
