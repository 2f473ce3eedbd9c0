"""Why a register holds what it holds: the instructions on the verifier's path that set it.

It does not need gdb. A register is followed back over copies, and over the slots of the stack that
it was spilled to. Whatever may write such a slot is a reason, too: an instruction that stores
through another register, and a call that gets a pointer into the stack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .path import CALL, EXIT, FRAME_POINTER, Insn, enters, is_conditional

__all__ = ["Cause", "causes"]

_LD, _LDX, _ST, _STX, _ALU, _ALU64 = 0, 1, 2, 3, 4, 7
_WIDE, _ATOMIC = 0x18, 0xC0
_ADD, _SUB, _MOV = 0x00, 0x10, 0xB0
_FETCH, _CMPXCHG, _LOAD_ACQUIRE = 0x01, 0xF1, 0x100
_SIZES = (4, 2, 1, 8)

# Numbers of include/uapi/linux/bpf.h. These helpers only read what their arguments point to: those
# of maps, of output, of redirects, and the ones that run a callback, which is on the path itself.
_READERS = frozenset(
    {1, 2, 3, 5, 6, 7, 8, 12, 14, 15, 25, 35, 36, 44, 51, 87, 130, 131, 132, 133}
    | {160, 164, 170, 177, 181, 182}
)
# The helpers whose first pointer is to memory that they write, with its size right behind it:
# probe_read and its relatives, get_current_comm, skb_load_bytes, get_stack.
_BUFFERS = dict.fromkeys((4, 16, 45, 112, 113, 114, 115), 1) | {26: 3, 67: 2}
# How deep pointers are followed that were themselves read from memory.
_DEEPEST = 12


@dataclass(frozen=True)
class Cause:
    """An instruction on the path because of which a register holds what it holds."""

    number: int
    what: str
    """What it did, in a few words."""


@dataclass
class _Target:
    """What is looked for, going back over the path: a register or bytes of the stack of a frame."""

    register: int
    depth: int
    """The frame: 0 is that of now, and callees are above."""
    slot: int | None = None
    """The offset from the frame pointer, if it is on the stack; then `register` is -1."""
    size: int = 8
    """How many bytes of the stack."""

    def __str__(self) -> str:
        return f"fp{self.slot}" if self.slot is not None else f"R{self.register}"


@dataclass(frozen=True)
class _Origin:
    """What a register holds, as far as the path says it."""

    kind: str
    """`stack`; `number`; `other`, which is no pointer into the stack; or `unknown`."""
    depth: int = 0
    """The frame that it points into; if it is unknown, the innermost one that it may point into."""
    value: int | None = 0
    """The offset from that frame's pointer, or the number; None if it is not known."""


@dataclass(frozen=True)
class _Effect:
    """What an instruction did to the target."""

    what: str
    origin: _Origin | None = None
    """Where the search ends, what the target holds from there on."""
    moved: int | None = 0
    """What is added to the target; None if that is not known."""
    added: int | None = None
    """The register that is added to the target."""


_OTHER = _Origin("other")


def causes(
    numbers: Sequence[int], insn: Callable[[int], Insn], register: int
) -> tuple[list[Cause], str]:
    """Return why a register holds what it holds at the first of `numbers`, a path.

    The first reason is the newest. The text says what the oldest one began with, or that the path
    ends before it.
    """
    if register == FRAME_POINTER:
        return [], "R10 is the frame pointer in each function"
    walk, target = _Walk(numbers, insn), _Target(register, 0)
    found: list[Cause] = []
    for at in range(1, len(numbers)):
        effect = walk.effect(at, target)
        if effect is None:
            continue
        hint = ""
        if effect.added is not None and walk.is_unchanged(effect.added, at):
            hint = f"; see `bpf-why r{effect.added}`"
        found.append(Cause(numbers[at], effect.what + hint))
        if effect.origin is not None:
            return found, ""
    if target.register == 1 and target.depth <= 0:
        return found, "R1 is the argument of the program, or of the function that is checked alone"
    return found, f"nothing on the known path writes {target}"


class _Walk:
    """A path, the newest instruction first, and the frame of each instruction on it."""

    def __init__(self, numbers: Sequence[int], insn: Callable[[int], Insn]) -> None:
        self._numbers = numbers
        self._insns = {number: insn(number) for number in set(numbers[1:])}
        self._depths = [0]
        self._known: dict[tuple[int, int], _Origin] = {}
        self._nested = 0
        for at in range(1, len(numbers)):
            one = self._insns[numbers[at]]
            change = (one.code == EXIT) - self._enters(at)
            self._depths.append(self._depths[-1] + change)

    def _enters(self, at: int) -> bool:
        number = self._numbers[at]
        return enters(self._insns[number], number, self._numbers[at - 1])

    def is_unchanged(self, register: int, at: int) -> bool:
        """Whether a register holds now what it held at an instruction of the path."""
        if self._depths[at]:
            return False
        target = _Target(register, 0)
        effects = (self.effect(each, target) for each in range(1, at))
        return all(effect is None or _is_test(effect) for effect in effects)

    def effect(self, at: int, target: _Target) -> _Effect | None:
        """Return what an instruction did to the target, which may be another one then."""
        one, depth = self._insns[self._numbers[at]], self._depths[at]
        if one.code == EXIT:
            return self._exit(at, target)
        if one.code == CALL:
            return self._entry(at, target) or self._call(at, target)
        if target.slot is not None:
            return self._store(at, target)
        if depth != target.depth:
            return None
        return self._test(at, target) if is_conditional(one) else self._write(at, target)

    def _test(self, at: int, target: _Target) -> _Effect | None:
        one = self._insns[self._numbers[at]]
        operands = {one.dst} | ({one.src} if one.code & 8 else set())
        if target.register not in operands or one.is_may_goto:
            return None
        is_next = self._numbers[at - 1] == self._numbers[at] + 1
        return _Effect("not taken" if is_next else "taken")

    def _exit(self, at: int, target: _Target) -> _Effect | None:
        depth = self._depths[at]
        if target.register != 0 or target.depth != depth - 1:
            return None
        call = next((n for n in range(at, len(self._depths)) if self._depths[n] < depth), None)
        # What a callback returns, its helper gets.
        if call is not None and not self._insns[self._numbers[call]].is_of_program:
            return None
        target.depth = depth
        return _Effect("the function returns it")

    def _entry(self, at: int, target: _Target) -> _Effect | None:
        """Return what a call gave to the function that it entered, if the target is in it."""
        one, depth = self._insns[self._numbers[at]], self._depths[at]
        if not self._enters(at) or target.depth != depth + 1:
            return None
        if target.slot is not None or not 1 <= target.register <= 5:
            text = f"it enters the function, in which nothing has written {target}"
            return _Effect(text, _OTHER)
        if one.is_of_program:
            target.depth = depth
            return _Effect(f"it is passed as {target}")
        text = f"the kernel calls this function back, and passes it {target}"
        return _Effect(text, _unknown(depth))

    def _call(self, at: int, target: _Target) -> _Effect | None:
        one, depth = self._insns[self._numbers[at]], self._depths[at]
        if target.slot is not None:
            is_followed = one.is_of_program and self._enters(at)
            return None if is_followed else self._written_by_call(at, target)
        if target.depth != depth:
            return None
        if target.register == 0:
            return _Effect("the call returns it", _OTHER)
        if 1 <= target.register <= 5:
            return _Effect("a call makes R1 to R5 unreadable", _OTHER)
        return None

    def _written_by_call(self, at: int, target: _Target) -> _Effect | None:
        """Return that a call may write the target, if it gets a pointer to there or below."""
        one, depth = self._insns[self._numbers[at]], self._depths[at]
        is_helper = not one.src
        if target.depth > depth or (is_helper and one.imm in _READERS):
            return None
        buffer = _BUFFERS.get(one.imm) if is_helper else None
        for register in (buffer,) if buffer else range(1, 6):
            size = self.origin(at, register + 1, depth) if buffer else _OTHER
            most = size.value if size.kind == "number" else None
            if _may_reach(self.origin(at, register, depth), 0, most, target):
                text = f"it may write {target}, through R{register}"
                return _Effect(text, _unknown(depth))
        return None

    def _store(self, at: int, target: _Target) -> _Effect | None:
        one, depth = self._insns[self._numbers[at]], self._depths[at]
        size = _size(one)
        if one.code & 7 not in (_ST, _STX) or (_is_atomic(one) and one.imm == _LOAD_ACQUIRE):
            return None
        base = self.origin(at, one.dst, depth)
        if target.slot is None or not _may_reach(base, one.off, size, target):
            return None
        if base.kind != "stack" or base.value is None:
            return _Effect(f"it may write {target}, through R{one.dst}", _unknown(depth))
        first = base.value + one.off
        if first > target.slot or first + size < target.slot + target.size:
            return _Effect(f"it writes a part of {target}", _unknown(depth))
        return _stored(one, depth, target)

    def _write(self, at: int, target: _Target) -> _Effect | None:
        one = self._insns[self._numbers[at]]
        kind = one.code & 7
        is_atomic = _is_atomic(one)
        if is_atomic and one.imm != _LOAD_ACQUIRE:
            written = 0 if one.imm == _CMPXCHG else one.src if one.imm & _FETCH else None
            is_it = written == target.register
            return _Effect("it is loaded from memory", _OTHER) if is_it else None
        if kind == _LD:
            return _packet_or_constant(one, target)
        if one.dst == target.register and kind in (_ALU, _ALU64):
            return _arithmetic(one, target)
        is_load = kind == _LDX or is_atomic
        return self._load(at, target) if one.dst == target.register and is_load else None

    def _load(self, at: int, target: _Target) -> _Effect:
        one, depth = self._insns[self._numbers[at]], self._depths[at]
        base = self.origin(at, one.src, depth)
        if base.kind != "stack" or base.value is None:
            is_known = base.kind in ("number", "other")
            text = f"{target} is loaded through R{one.src}"
            return _Effect(text, _OTHER if is_known else _unknown(depth))
        text = f"{target} is loaded from fp{base.value + one.off}"
        text += "" if one.src == FRAME_POINTER else f", through R{one.src}"
        target.register, target.slot = -1, base.value + one.off
        target.size, target.depth = _size(one), base.depth
        return _Effect(text)

    def origin(self, at: int, register: int, depth: int) -> _Origin:
        """Return what a register of this frame holds before an instruction of the path."""
        if register == FRAME_POINTER:
            return _Origin("stack", depth)
        if (at, register) not in self._known:
            if self._nested >= _DEEPEST:
                return _unknown(depth)
            self._nested += 1
            found, before = self._origin(at, register, depth)
            self._nested -= 1
            # It is the same back to where the register was written: a loop asks at many places.
            same = (each for each in range(at, before) if self._depths[each] == depth)
            self._known.update(((each, register), found) for each in same)
        return self._known[at, register]

    def _origin(self, at: int, register: int, depth: int) -> tuple[_Origin, int]:
        """Return what `origin` does, and the instruction on the path that wrote the register."""
        target = _Target(register, depth)
        for each in range(at + 1, len(self._numbers)):
            effect = self.effect(each, target)
            if effect is not None and not _is_test(effect):
                return self._origin_from(each, effect, target, depth), each
        return _OTHER, len(self._numbers)

    def _origin_from(self, at: int, effect: _Effect | None, target: _Target, depth: int) -> _Origin:
        moved, added, is_known = 0, [], True
        for each in range(at, len(self._numbers)):
            frame = depth if each == at else target.depth
            effect = effect if each == at else self.effect(each, target)
            if effect is None:
                continue
            is_known = is_known and effect.moved is not None
            moved += effect.moved or 0
            if effect.added is not None:
                added.append((each, effect.added, frame))
            if effect.origin is None:
                continue
            found = effect.origin
            if found.kind in ("stack", "number") and found.value is not None and is_known:
                return _Origin(found.kind, found.depth, found.value + moved)
            if found.kind in ("stack", "unknown"):
                return _Origin(found.kind, found.depth, None)
            break
        # A pointer that is added to a number is a pointer.
        for each, one, frame in added:
            found = self.origin(each, one, frame)
            if found.kind in ("stack", "unknown"):
                return _Origin(found.kind, found.depth, None)
        return _OTHER


def _unknown(depth: int) -> _Origin:
    return _Origin("unknown", depth, None)


def _size(one: Insn) -> int:
    return _SIZES[(one.code >> 3) & 3]


def _is_atomic(one: Insn) -> bool:
    return one.code & 7 == _STX and one.code & 0xE0 == _ATOMIC


def _stored(one: Insn, depth: int, target: _Target) -> _Effect:
    """Return that an instruction writes all of the target, which is then the stored register."""
    if one.code & 7 == _ST:
        return _Effect(f"a constant is stored to {target}", _Origin("number", 0, one.imm))
    if _is_atomic(one):
        return _Effect(f"it is stored to {target}", _OTHER)
    text = f"R{one.src} is stored to {target}"
    target.register, target.slot, target.depth = one.src, None, depth
    is_frame = one.src == FRAME_POINTER
    return _Effect(text, _Origin("stack", depth) if is_frame else None)


def _packet_or_constant(one: Insn, target: _Target) -> _Effect | None:
    """Return what a load of a constant did, or one from a packet, which is like a call."""
    if target.register == (one.dst if one.code == _WIDE else 0):
        # The upper half of a constant has the opcode 0, and writes nothing.
        return _Effect(f"{target} is loaded", _OTHER) if one.code else None
    if one.code not in (0, _WIDE) and 1 <= target.register <= 5:
        return _Effect("a load from a packet makes R1 to R5 unreadable", _OTHER)
    return None


def _may_reach(base: _Origin, offset: int, size: int | None, target: _Target) -> bool:
    """Whether so many bytes at an offset from what a register holds may be of the target."""
    if base.kind == "unknown":
        return base.depth >= target.depth
    if base.kind != "stack" or base.depth != target.depth or target.slot is None:
        return False
    if base.value is None:
        return True
    first = base.value + offset
    ends_before = size is not None and first + size <= target.slot
    return first < target.slot + target.size and not ends_before


def _is_test(effect: _Effect) -> bool:
    return effect.what in ("taken", "not taken")


def _arithmetic(one: Insn, target: _Target) -> _Effect:
    operation, is_register = one.code & 0xF0, bool(one.code & 8)
    if operation == _MOV and not is_register:
        return _Effect(f"{target} is a constant", _Origin("number", 0, one.imm))
    if operation == _MOV:
        text = f"R{one.src} is copied to {target}"
        depth = target.depth
        target.register = one.src
        return _Effect(text, _Origin("stack", depth) if one.src == FRAME_POINTER else None)
    if operation not in (_ADD, _SUB):
        return _Effect(f"{target} is changed", moved=None)
    verb = "added to" if operation == _ADD else "subtracted from"
    if is_register:
        return _Effect(f"R{one.src} is {verb} {target}", moved=None, added=one.src)
    moved = one.imm if operation == _ADD else -one.imm
    return _Effect(f"{one.imm} is {verb} {target}", moved=moved)
