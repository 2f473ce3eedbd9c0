"""Instructions as text, in the words of the verifier's log."""

import pytest

from bpfmatrix.debug.in_gdb.insn import text


@pytest.mark.parametrize(
    ("code", "dst", "src", "off", "imm", "said"),
    [
        (0xBF, 1, 2, 0, 0, "r1 = r2"),
        (0xB4, 1, 0, 0, -1, "w1 = -1"),
        (0xBF, 1, 2, 8, 0, "r1 = (s8)r2"),
        (0xBC, 1, 2, 16, 0, "w1 = (s16)w2"),
        (0xBF, 1, 2, 1, 1 << 16, "r1 = addr_space_cast(r2, 1, 0)"),
        (0x37, 4, 0, 0, 3, "r4 /= 3"),
        (0x37, 4, 0, 1, 3, "r4 s/= 3"),
        (0x9C, 4, 5, 1, 0, "w4 s%= w5"),
        (0xD4, 1, 0, 0, 16, "r1 = le16 r1"),
        (0xDC, 1, 0, 0, 32, "r1 = be32 r1"),
        (0xD7, 1, 0, 0, 64, "r1 = bswap64 r1"),
        (0x87, 1, 0, 0, 0, "r1 = -r1"),
        (0x71, 1, 10, -8, 0, "r1 = *(u8 *)(r10 -8)"),
        (0x91, 1, 10, -8, 0, "r1 = *(s8 *)(r10 -8)"),
        (0x81, 1, 10, -8, 0, "r1 = *(s32 *)(r10 -8)"),
        (0xDB, 1, 2, 8, 0x00, "lock *(u64 *)(r1 +8) += r2"),
        (0xC3, 1, 2, 8, 0x51, "r2 = atomic_fetch_and((u32 *)(r1 +8), r2)"),
        (0xDB, 1, 2, 8, 0xE1, "r2 = atomic64_xchg((u64 *)(r1 +8), r2)"),
        (0xDB, 1, 2, 8, 0xF1, "r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)"),
        (0xDB, 1, 2, 8, 0x100, "r1 = load_acquire((u64 *)(r2 +8))"),
        (0xDB, 1, 2, 8, 0x110, "store_release((u64 *)(r1 +8), r2)"),
        (0x15, 0, 0, 4, 0, "if r0 == 0x0 goto pc+4"),
        (0xE5, 0, 0, 4, 0, "may_goto pc+4"),
        (0x0D, 3, 0, 0, 0, "gotox r3"),
        (0x06, 0, 0, 0, 7, "gotol pc+7"),
        (0x05, 0, 0, -2, 0, "goto pc-2"),
        (0x95, 0, 0, 0, 0, "exit"),
    ],
)
def test_an_instruction(code: int, dst: int, src: int, off: int, imm: int, said: str) -> None:
    assert text(code, dst, src, off, imm) == f"({code:02x}) {said}"
