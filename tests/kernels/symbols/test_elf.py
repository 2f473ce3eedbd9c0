import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.debug import names, symbol_table
from bpfmatrix.debug.gdb import nearest
from bpfmatrix.debug.in_gdb import insn
from bpfmatrix.errors import KernelUnavailableError, UsageError
from bpfmatrix.kernels.symbols import elf
from bpfmatrix.kernels.symbols.elf import Symbol


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("elf") / "program"
    source = "int inner(void) { return 1; } int table[4]; void _start(void) { inner(); }"
    command: list[str | Path] = ["gcc", "-x", "c", "-", "-nostdlib", "-static", "-Wl,--build-id"]
    subprocess.run([*command, "-o", made], input=source, text=True, check=True)
    return made


def test_what_an_elf_file_tells(program: Path, tmp_path: Path) -> None:
    said = subprocess.run(
        ["readelf", "-n", program], capture_output=True, text=True, check=True
    ).stdout
    id = elf.build_id(program)
    assert f"Build ID: {id}\n" in said
    assert elf.holds_build_id(program, id)
    assert not elf.holds_build_id(program, "00" * 20)
    assert not elf.has_lines(program)
    listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    by_name = {line.split()[2]: int(line.split()[0], 16) for line in listed.splitlines()}
    found = {symbol.name: symbol.address for symbol in elf.symbols(program)}
    assert found["inner"] == by_name["inner"]
    assert found["_start"] == by_name["_start"]
    assert "table" not in found

    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    assert elf.symbols(stripped) == []


@pytest.mark.parametrize(
    "content", [b"", b"no ELF", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(60)]
)
def test_what_is_no_vmlinux(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        elf.build_id(path)
    assert not elf.has_lines(path)
    with pytest.raises(UsageError, match="can't be read"):
        elf.build_id(tmp_path / "gone")


def test_names_become_a_symbol_table(program: Path, tmp_path: Path) -> None:
    known = {symbol.name: symbol for symbol in elf.symbols(program)}
    stripped, made = tmp_path / "stripped", tmp_path / "vmlinux"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    kallsyms = (
        f"0000000000000000 A fixed_percpu_data\n{known['_start'].address:016x} T _start\n"
        f"{known['inner'].address:016x} t inner.constprop.0\n"
        f"{known['inner'].address:016x} t of_a_module\t[oops]\n"
        "ffffffff81000000 T elsewhere\n"
    )
    found = names.parse(kallsyms.encode())
    assert [symbol.name for symbol in found] == ["_start", "inner.constprop.0", "elsewhere"]
    symbol_table.write(stripped, found, made)
    # As binutils and gdb read it.
    listed = subprocess.run(["nm", made], capture_output=True, text=True, check=True).stdout
    assert f"{known['inner'].address:016x} T inner.constprop.0" in listed
    assert "elsewhere" not in listed
    assert elf.build_id(made) == elf.build_id(program)
    gdb = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", "info symbol _start", made],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_start in section .text" in gdb.stdout
    made.chmod(0o755)
    subprocess.run([made.absolute()], check=False)  # it still is a program: no OSError

    (tmp_path / "Image").write_bytes(b"MZ" + bytes(100))
    with pytest.raises(KernelUnavailableError, match="Image is no ELF file"):
        symbol_table.write(tmp_path / "Image", found, made)


@given(st.binary())
def test_whatever_kallsyms_has(text: bytes) -> None:
    for symbol in names.parse(text):
        assert isinstance(symbol, Symbol)


def test_names_that_somebody_may_have_meant() -> None:
    there = {"do_check", "do_check_common", "bpf_check", "do_check.constprop.0", "vfs_read", ""}
    assert nearest("do_chek", there)[0] == "do_check"
    assert nearest("check_comon", there) == ["do_check_common"]
    assert "bpf_check" in nearest("check", there)
    assert nearest("zzzz", there) == []


# From the verifier's log of this repository's stack_sampler on 6.1: opcode, registers, offset,
# immediate, and what the kernel's own disassembler printed.
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((0xBF, 6, 1, 0, 0), "(bf) r6 = r1"),
        ((0xB7, 7, 0, 0, 0), "(b7) r7 = 0"),
        ((0x7B, 10, 7, -16, 0), "(7b) *(u64 *)(r10 -16) = r7"),
        ((0x77, 1, 0, 0, 32), "(77) r1 >>= 32"),
        ((0x63, 10, 1, -32, 0), "(63) *(u32 *)(r10 -32) = r1"),
        ((0x61, 2, 1, 8, 0), "(61) r2 = *(u32 *)(r1 +8)"),
        ((0x15, 0, 0, 5, 0), "(15) if r0 == 0x0 goto pc+5"),
        ((0x05, 0, 0, -3, 0), "(05) goto pc-3"),
        ((0x95, 0, 0, 0, 0), "(95) exit"),
        ((0x87, 3, 0, 0, 0), "(87) r3 = -r3"),
        ((0xBC, 1, 2, 0, 0), "(bc) w1 = w2"),
    ],
)
def test_instructions(fields: tuple[int, int, int, int, int], text: str) -> None:
    assert insn.text(*fields) == text


@given(
    st.integers(0, 255), st.integers(0, 15), st.integers(0, 15), st.integers(-99, 99), st.integers()
)
def test_any_instruction_has_a_text(code: int, dst: int, src: int, off: int, imm: int) -> None:
    assert insn.text(code, dst, src, off, imm).startswith(f"({code:02x}) ")
