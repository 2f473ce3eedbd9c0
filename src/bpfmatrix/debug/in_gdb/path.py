"""How the verifier came to an instruction, and where a register got what it holds there.

It does not need gdb. The verifier keeps the jumps of the path that it follows, for each state that
it has saved on the way (`jmp_history` of struct bpf_verifier_state, include/linux/bpf_verifier.h);
between two jumps, one instruction follows the other. Instructions are encoded as in the kernel's
Documentation/bpf/standardization/instruction-set.rst.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "Insn",
    "Part",
    "Reason",
    "State",
    "is_choice",
    "is_conditional",
    "parts",
    "path",
    "reasons",
]

_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)
_CALL, _EXIT, _WIDE = 0x85, 0x95, 0x18
_MOV, _JA, _ATOMIC = 0xB0, 0x00, 0xC0
_FETCH, _CMPXCHG = 0x01, 0xF1
_PSEUDO_CALL = 1
_FRAME_POINTER = 10


@dataclass(frozen=True)
class State:
    """A state that the verifier has saved on the path, or that of now."""

    first: int
    """The first instruction that is checked from this state on."""
    last: int
    """The last instruction that was checked before the next state was saved."""
    jumps: tuple[tuple[int, int], ...]
    """Instructions that did not follow the one before: their numbers, and from where they came."""


def path(states: Sequence[State], now: int, before: int, most: int) -> list[int]:
    """Return the numbers of the instructions on the way to `now`, the newest first.

    `states` are those of the path, the newest first. `before` is the instruction before `now`, and
    negative if there is none. At most `most` numbers are returned.
    """
    found, at = [now], before
    for number, state in enumerate(states):
        jumps = list(state.jumps)
        older = states[number + 1] if number + 1 < len(states) else None
        if not number:
            # The jump to `now` may have been noted, or not yet.
            is_noted = bool(jumps) and jumps[-1] == (now, before)
            if is_noted:
                jumps.pop()
            from_older = older is not None and older.last == before
            if state.first == now and not jumps and (from_older or not is_noted):
                continue
        else:
            at = state.last if number > 1 or found != [now] else before
        while at >= 0 and len(found) < most:
            found.append(at)
            # The jump from the state before may have been noted in this one.
            if at == state.first and jumps in ([], [(at, older.last)] if older else []):
                break
            if jumps and jumps[-1][0] == at:
                at = jumps.pop()[1]
            else:
                at -= 1
        if len(found) >= most or at < 0:
            break
    return found


@dataclass(frozen=True)
class Part:
    """Instructions on a path that follow each other, and are of one line of the source."""

    numbers: list[int]
    place: tuple[str, int, str] | None
    """The file, the line's number and its text; None if the program has no lines."""
    next: int | None
    """The instruction behind them on the path; None if there is none."""


def parts(
    numbers: Sequence[int], place: Callable[[int], tuple[str, int, str] | None]
) -> Iterator[Part]:
    """Return a path, the newest first, as parts, the oldest first."""
    run: list[int] = []
    for number in reversed(numbers):
        follows = bool(run) and number == run[-1] + 1 and place(number) == place(run[-1])
        if run and not follows:
            yield Part(run, place(run[0]), number)
            run = []
        run.append(number)
    if run:
        yield Part(run, place(run[0]), None)


@dataclass(frozen=True)
class Insn:
    """An instruction: its opcode, registers, offset and immediate."""

    code: int
    dst: int
    src: int
    off: int
    imm: int

    @property
    def is_of_program(self) -> bool:
        """Whether it calls a function of the program itself."""
        return self.code == _CALL and self.src == _PSEUDO_CALL

    @property
    def is_jump(self) -> bool:
        """Whether it is of the classes of jumps, calls and exits."""
        return self.code & 7 in (_JMP, _JMP32)


def is_conditional(insn: Insn) -> bool:
    """Whether the next instruction depends on registers."""
    return insn.is_jump and insn.code not in (_CALL, _EXIT) and insn.code & 0xF0 != _JA


def is_choice(insn: Insn) -> bool:
    """Whether it says where the path goes: a condition, or one of the program's calls and exits."""
    return is_conditional(insn) or insn.is_of_program or insn.code == _EXIT


@dataclass(frozen=True)
class Reason:
    """An instruction on the path because of which a register holds what it holds."""

    number: int
    what: str
    """What it did, in a few words."""


@dataclass
class _Target:
    """What is looked for, going back over the path: a register or a stack slot of a frame."""

    register: int
    slot: int | None
    """The offset from the frame pointer, if it is a slot of the stack; then `register` is -1."""
    depth: int
    """The frame: 0 is that of now, and callees are above."""

    def __str__(self) -> str:
        return f"fp{self.slot}" if self.slot is not None else f"R{self.register}"


def reasons(
    numbers: Sequence[int], insn: Callable[[int], Insn], register: int
) -> tuple[list[Reason], str]:
    """Return why a register holds what it holds at the first of `numbers`, a path.

    The first reason is the newest. The text says what the oldest one began with, or that the path
    ends before it.
    """
    if register == _FRAME_POINTER:
        return [], "R10 is the frame pointer in each function"
    target = _Target(register, None, 0)
    found: list[Reason] = []
    for number, done in _back(numbers, insn, target):
        if done is None:
            continue
        found.append(Reason(number, done[0]))
        if done[1]:
            return found, ""
    if target.register == 1 and target.depth <= 0:
        return found, "R1 is the argument of the program, or of the function that is checked alone"
    return found, f"nothing on the known path writes {target}"


def _back(
    numbers: Sequence[int], insn: Callable[[int], Insn], target: _Target
) -> Iterator[tuple[int, tuple[str, bool] | None]]:
    """Go back over the path; yield what each instruction did to the target, and if that is all."""
    depth = 0
    for newer, number in itertools.pairwise(numbers):
        one = insn(number)
        if one.code == _EXIT:
            depth += 1
            if target.register == 0 and target.depth == depth - 1:
                target.depth = depth
                yield number, ("the function returns it", False)
            continue
        if one.is_of_program and newer == number + 1 + one.imm:
            depth -= 1
            if target.depth == depth + 1 and 1 <= target.register <= 5:
                target.depth = depth
                yield number, (f"it is passed as {target}", False)
            elif target.depth == depth and 1 <= target.register <= 5:
                yield number, ("a call makes R1 to R5 unreadable", True)
            continue
        yield number, _effect(one, number, newer, target) if target.depth == depth else None


def _effect(one: Insn, number: int, newer: int, target: _Target) -> tuple[str, bool] | None:
    """Return what an instruction did to the target, which may be another one then."""
    kind = one.code & 7
    if one.code == _CALL:
        if target.register == 0:
            return "the call returns it", True
        return ("a call makes R1 to R5 unreadable", True) if 1 <= target.register <= 5 else None
    if is_conditional(one):
        operands = {one.dst} | ({one.src} if one.code & 8 else set())
        if target.register not in operands:
            return None
        return ("not taken" if newer == number + 1 else "taken"), False
    if target.slot is not None:
        return _store(one, kind, target)
    return _write(one, kind, target)


def _store(one: Insn, kind: int, target: _Target) -> tuple[str, bool] | None:
    size = (4, 2, 1, 8)[(one.code >> 3) & 3]
    if kind not in (_ST, _STX) or one.dst != _FRAME_POINTER or target.slot is None:
        return None
    if not (one.off <= target.slot < one.off + size):
        return None
    if kind == _ST or one.code & 0xE0 == _ATOMIC:
        return f"it is stored to {target}", True
    text = f"R{one.src} is stored to {target}"
    target.register, target.slot = one.src, None
    return text, False


def _write(one: Insn, kind: int, target: _Target) -> tuple[str, bool] | None:
    if kind == _STX and one.code & 0xE0 == _ATOMIC:
        written = 0 if one.imm == _CMPXCHG else one.src if one.imm & _FETCH else None
        return ("it is loaded from memory", True) if written == target.register else None
    # The upper half of a 64-bit load has the opcode 0. The others load from packets, into R0.
    if kind == _LD and one.code and (one.dst if one.code == _WIDE else 0) == target.register:
        return f"{target} is loaded", True
    if one.dst != target.register:
        return None
    if kind in (_ALU, _ALU64):
        return _arithmetic(one, target)
    return _load(one, target) if kind == _LDX else None


def _arithmetic(one: Insn, target: _Target) -> tuple[str, bool]:
    if one.code & 0xF0 != _MOV:
        return f"{target} is changed", False
    if not one.code & 8:
        return f"{target} is a constant", True
    text = f"R{one.src} is copied to {target}"
    target.register = one.src
    return text, one.src == _FRAME_POINTER


def _load(one: Insn, target: _Target) -> tuple[str, bool]:
    if one.src != _FRAME_POINTER:
        return f"{target} is loaded through R{one.src}", True
    text = f"{target} is loaded from fp{one.off}"
    target.register, target.slot = -1, one.off
    return text, False
