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
_SIGNED_LOAD, _ATOMIC = 0x80, 0xC0
_GOTO_REGISTER, _MAY_GOTO = 0x0D, 0xE5
_ATOMIC_FETCHES = {0x01: "add", 0x41: "or", 0x51: "and", 0xA1: "xor"}
# Offsets of a move that make it another instruction: it extends the sign of so many bits.
_SIGNED_MOVES = (8, 16, 32)
_CAST = 1


def text(code: int, dst: int, src: int, off: int, imm: int) -> str:
    """Return an instruction as text, from its opcode, registers, offset and immediate."""
    kind = _CLASSES[code & 7]
    if kind in ("alu", "alu64"):
        body = _arithmetic(code, dst, src, off, imm)
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
        size = size.replace("u", "s") if mode == _SIGNED_LOAD else size
        return f"r{dst} = *({size} *)(r{src} {off:+d})"
    if kind == "stx" and mode == _ATOMIC:
        return _atomic(dst, src, off, imm, size)
    return f"*({size} *)(r{dst} {off:+d}) = {imm if kind == 'st' else f'r{src}'}"


def _atomic(dst: int, src: int, off: int, imm: int, size: str) -> str:
    place = f"({size} *)(r{dst} {off:+d})"
    width = "64" if size == "u64" else ""
    if imm in (0x00, 0x40, 0x50, 0xA0):
        return f"lock *{place} {_ALU[imm >> 4]} r{src}"
    if imm in _ATOMIC_FETCHES:
        return f"r{src} = atomic{width}_fetch_{_ATOMIC_FETCHES[imm]}({place}, r{src})"
    others = {
        0xF1: f"r0 = atomic{width}_cmpxchg({place}, r0, r{src})",
        0xE1: f"r{src} = atomic{width}_xchg({place}, r{src})",
        0x100: f"r{dst} = load_acquire(({size} *)(r{src} {off:+d}))",
        0x110: f"store_release({place}, r{src})",
    }
    return others.get(imm, f"lock *{place} (operation {imm & 0xFFFFFFFF:#x}) r{src}")


def _arithmetic(code: int, dst: int, src: int, off: int, imm: int) -> str:
    is_64 = _CLASSES[code & 7] == "alu64"
    letter = "r" if is_64 else "w"
    operation = _ALU[code >> 4] if code >> 4 < len(_ALU) else "?"
    if operation == "neg":
        return f"{letter}{dst} = -{letter}{dst}"
    if operation == "end":
        swap = "bswap" if is_64 else "be" if code & 8 else "le"
        return f"r{dst} = {swap}{imm} r{dst}"
    if operation == "=" and code & 8 and is_64 and off == _CAST:
        return f"r{dst} = addr_space_cast(r{src}, {imm >> 16 & 0xFFFF}, {imm & 0xFFFF})"
    extended = f"(s{off})" if operation == "=" and off in _SIGNED_MOVES else ""
    if operation in ("/=", "%=") and off == 1:
        operation = f"s{operation}"
    return f"{letter}{dst} {operation} {f'{extended}{letter}{src}' if code & 8 else imm}"


def _jump(code: int, dst: int, src: int, off: int, imm: int, letter: str) -> str:
    operation = _JUMPS[code >> 4] if code >> 4 < len(_JUMPS) else "?"
    if code == _GOTO_REGISTER:
        return f"gotox r{dst}"
    if code == _MAY_GOTO:
        return f"may_goto pc{off:+d}"
    if operation == "goto":
        return f"gotol pc{imm:+d}" if letter == "w" else f"goto pc{off:+d}"
    if operation == "exit":
        return "exit"
    if operation == "call":
        # src_reg: BPF_PSEUDO_CALL is 1, BPF_PSEUDO_KFUNC_CALL is 2.
        return (f"call helper {imm}", f"call pc{imm:+d}", f"call kernel function {imm}")[
            min(src, 2)
        ]
    operand = f"{letter}{src}" if code & 8 else f"{imm:#x}"
    return f"if {letter}{dst} {operation} {operand} goto pc{off:+d}"
