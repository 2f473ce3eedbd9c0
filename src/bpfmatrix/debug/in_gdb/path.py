"""How the verifier came to an instruction.

It does not need gdb. The verifier keeps the jumps of the path that it follows, for each state that
it has saved on the way (`jmp_history` of struct bpf_verifier_state, include/linux/bpf_verifier.h);
between two jumps, one instruction follows the other. Instructions are encoded as in the kernel's
Documentation/bpf/standardization/instruction-set.rst.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "CALL",
    "EXIT",
    "FRAME_POINTER",
    "Choice",
    "Insn",
    "State",
    "Stretch",
    "choices",
    "enters",
    "is_conditional",
    "of_callback",
    "path",
    "stretches",
]

CALL = 0x85
"""The opcode of a call."""
EXIT = 0x95
"""The opcode of the end of a function."""
FRAME_POINTER = 10
"""The register that points to the end of a function's stack."""
_JMP, _JMP32 = 5, 6
_JA, _MAY_GOTO = 0x00, 0xE5
_PSEUDO_CALL = 1
# A program has fewer instructions. A larger number is the -1 in front of the first instruction, in
# the 32 or 20 bits of a jump (`prev_idx` of struct bpf_jmp_history_entry).
_MOST = 1_000_000


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
                before_it = jumps.pop()[1]
                at = before_it if before_it < _MOST else -1
            else:
                at -= 1
        if len(found) >= most or at < 0:
            break
    return found


@dataclass(frozen=True)
class Stretch:
    """Instructions on a path that follow each other, and are of one line of the source."""

    numbers: list[int]
    place: tuple[str, int, str] | None
    """The file, the line's number and its text; None if the program has no lines."""
    next: int | None
    """The instruction behind them on the path; None if there is none."""


def stretches(
    numbers: Sequence[int], place: Callable[[int], tuple[str, int, str] | None]
) -> Iterator[Stretch]:
    """Return a path, the newest first, as stretches, the oldest first."""
    run: list[int] = []
    for number in reversed(numbers):
        follows = bool(run) and number == run[-1] + 1 and place(number) == place(run[-1])
        if run and not follows:
            yield Stretch(run, place(run[0]), number)
            run = []
        run.append(number)
    if run:
        yield Stretch(run, place(run[0]), None)


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
        return self.code == CALL and self.src == _PSEUDO_CALL

    @property
    def is_jump(self) -> bool:
        """Whether it is of the classes of jumps, calls and exits."""
        return self.code & 7 in (_JMP, _JMP32)

    @property
    def is_may_goto(self) -> bool:
        """Whether it ends a loop after many rounds, whatever the registers hold."""
        return self.code == _MAY_GOTO


def is_conditional(insn: Insn) -> bool:
    """Whether there are two instructions of which one is the next."""
    return insn.is_jump and insn.code not in (CALL, EXIT) and insn.code & 0xF0 != _JA


def enters(insn: Insn, number: int, newer: int) -> bool:
    """Whether a call entered a function of the program, by its number and that of the next one.

    A function of the program is called by name, or is a callback of a helper or kernel function.
    """
    return insn.code == CALL and newer != number + 1


def of_callback(numbers: Sequence[int], insn: Callable[[int], Insn], frame: int) -> Sequence[int]:
    """Return a path back to the call that set an asynchronous callback, such as a timer's.

    The verifier begins with a callback of that kind as with a program: the states do not say how it
    came to that call. `frame` is the number of the newest frame; the callback's is 0.
    """
    for at in range(1, len(numbers)):
        one = insn(numbers[at])
        frame += (one.code == EXIT) - enters(one, numbers[at], numbers[at - 1])
        if frame < 0:
            return numbers[: at + 1]
    return numbers


@dataclass(frozen=True)
class Choice:
    """An instruction that says where the path goes: a condition, a call, or a function's end."""

    number: int
    how: str
    """Where a condition went, or that a callback is entered; empty if it has one way to go."""
    deeper: int
    """1 if it entered a function, -1 if it left one, and 0 otherwise."""


def choices(stretch: Stretch, insn: Callable[[int], Insn]) -> Iterator[Choice]:
    """Return the choices of a stretch, the oldest first, but one that is not made yet."""
    following = [*stretch.numbers[1:], *([] if stretch.next is None else [stretch.next])]
    # The last instruction has none behind it, if none is on the path.
    for number, newer in zip(stretch.numbers, following, strict=False):
        one = insn(number)
        if is_conditional(one):
            how = "not taken" if newer == number + 1 else f"taken, to {newer}"
            yield Choice(number, how, 0)
        elif enters(one, number, newer):
            how = "" if one.is_of_program else f"calls back, to {newer}"
            yield Choice(number, how, 1)
        elif one.is_of_program:
            yield Choice(number, "", 0)
        elif one.code == EXIT:
            yield Choice(number, "", -1)
