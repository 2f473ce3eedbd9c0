"""Disassembles eBPF instructions, in nearly the format of the verifier's log.

It does not need gdb. The encoding is that of the kernel's
Documentation/bpf/standardization/instruction-set.rst.
"""

__all__ = ["WIDE", "text"]

WIDE = 0x18
"""The opcode of the 64-bit load, which is the only instruction that takes two slots."""

_CLASSES = ("ld", "ldx", "st", "stx", "alu", "jmp", "jmp32", "alu64")
_ALU = ("+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "end")
_JUMPS = ("goto", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<=")
_SIZES = ("u32", "u16", "u8", "u64")
_ATOMIC = 0xC0


def text(code: int, dst: int, src: int, off: int, imm: int) -> str:
    """Return an instruction as text, from its opcode, registers, offset and immediate."""
    kind = _CLASSES[code & 7]
    if kind in ("alu", "alu64"):
        body = _arithmetic(code, dst, src, imm, "w" if kind == "alu" else "r")
    elif kind in ("jmp", "jmp32"):
        body = _jump(code, dst, src, off, imm, "w" if kind == "jmp32" else "r")
    else:
        body = _memory(code, dst, src, off, imm)
    return f"({code:02x}) {body}"


def _memory(code: int, dst: int, src: int, off: int, imm: int) -> str:
    kind, size, mode = _CLASSES[code & 7], _SIZES[(code >> 3) & 3], code & 0xE0
    if code == WIDE:
        return f"r{dst} = {imm & 0xFFFFFFFF:#x} ll"
    if kind == "ld":
        return f"r0 = *({size} *)skb[{f'r{src} ' if mode == 0x40 else ''}{imm:+d}]"
    if kind == "ldx":
        return f"r{dst} = *({size} *)(r{src} {off:+d})"
    place = f"*({size} *)(r{dst} {off:+d})"
    if kind == "st":
        return f"{place} = {imm}"
    if mode == _ATOMIC:
        return f"lock {place} (operation {imm & 0xFFFFFFFF:#x}) r{src}"
    return f"{place} = r{src}"


def _arithmetic(code: int, dst: int, src: int, imm: int, letter: str) -> str:
    operation = _ALU[code >> 4] if code >> 4 < len(_ALU) else "?"
    if operation == "neg":
        return f"{letter}{dst} = -{letter}{dst}"
    if operation == "end":
        return f"r{dst} = {'be' if code & 8 else 'le'}{imm} r{dst}"
    return f"{letter}{dst} {operation} {f'{letter}{src}' if code & 8 else imm}"


def _jump(code: int, dst: int, src: int, off: int, imm: int, letter: str) -> str:
    operation = _JUMPS[code >> 4] if code >> 4 < len(_JUMPS) else "?"
    if operation == "goto":
        return f"goto pc{imm if letter == 'w' else off:+d}"
    if operation == "exit":
        return "exit"
    if operation == "call":
        # src_reg: BPF_PSEUDO_CALL is 1, BPF_PSEUDO_KFUNC_CALL is 2.
        return (f"call helper {imm}", f"call pc{imm:+d}", f"call kernel function {imm}")[
            min(src, 2)
        ]
    operand = f"{letter}{src}" if code & 8 else f"{imm:#x}"
    return f"if {letter}{dst} {operation} {operand} goto pc{off:+d}"
