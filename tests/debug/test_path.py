"""The way back from an instruction over the verifier's jumps, and what a register came from."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.debug.in_gdb.path import Insn, State, choices, of_callback, path, stretches
from bpfmatrix.debug.in_gdb.why import Cause, _Walk, causes

MOV_REG, MOV_IMM, ADD_REG = 0xBF, 0xB7, 0x0F
LOAD, STORE, CALL, EXIT, IF_ZERO = 0x79, 0x7B, 0x85, 0x95, 0x15


def test_without_jumps_one_instruction_follows_the_other() -> None:
    assert path([State(0, -1, ())], now=3, before=2, most=100) == [3, 2, 1, 0]
    assert path([State(0, -1, ())], now=0, before=-1, most=100) == [0]


def test_a_jump_is_taken_back_whether_or_not_it_was_noted_yet() -> None:
    for jumps in ([(9, 2)], []):
        assert path([State(0, -1, tuple(jumps))], now=9, before=2, most=100) == [9, 2, 1, 0]
    jumps = [(5, 1), (9, 6)]
    assert path([State(0, -1, tuple(jumps))], now=10, before=9, most=100) == [10, 9, 6, 5, 1, 0]


def test_the_path_goes_on_in_the_state_before() -> None:
    older = State(0, 4, ((4, 1),))
    # At the first instruction behind the saved state, and further on.
    assert path([State(7, -1, ()), older], now=7, before=4, most=100) == [7, 4, 1, 0]
    assert path([State(7, -1, ()), older], now=8, before=7, most=100) == [8, 7, 4, 1, 0]
    # The jump between the two states may have been noted in the newer one.
    noted = State(7, -1, ((7, 4),))
    assert path([noted, older], now=7, before=4, most=100) == [7, 4, 1, 0]
    assert path([noted, older], now=8, before=7, most=100) == [8, 7, 4, 1, 0]


def test_a_loop_within_a_state() -> None:
    # 3, 4, 5, and from 5 back to 3.
    states = [State(3, -1, ((3, 5),)), State(0, 2, ())]
    assert path(states, now=4, before=3, most=100) == [4, 3, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("none", [-1, (1 << 20) - 1, (1 << 32) - 1])
def test_nothing_is_in_front_of_the_first_instruction(none: int) -> None:
    # From 6.8 on, stores to the stack are noted like jumps, the first instruction included.
    oldest = State(0, 4, ((0, none), (3, 2)))
    assert path([State(5, -1, ()), oldest], now=6, before=5, most=100) == [6, 5, 4, 3, 2, 1, 0]


@given(
    st.lists(
        st.builds(
            State,
            st.integers(0, 20),
            st.integers(-1, 20),
            st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5).map(tuple),
        ),
        max_size=5,
    ),
    st.integers(0, 20),
    st.integers(-1, 20),
)
def test_it_ends_whatever_the_guests_memory_has(states: list[State], now: int, before: int) -> None:
    found = path(states, now, before, most=50)
    assert found[0] == now
    assert len(found) <= 50


def why(numbers: list[int], program: dict[int, Insn], register: int) -> tuple[list[Cause], str]:
    return causes(numbers, lambda number: program[number], register)


def test_a_register_is_followed_over_copies_and_the_stack() -> None:
    program = {
        0: Insn(CALL, 0, 0, 0, 1),
        1: Insn(IF_ZERO, 0, 0, 3, 0),
        2: Insn(STORE, 10, 0, -8, 0),
        3: Insn(MOV_IMM, 0, 0, 0, 0),
        4: Insn(LOAD, 2, 10, -8, 0),
        5: Insn(MOV_REG, 1, 2, 0, 0),
        6: Insn(ADD_REG, 1, 3, 0, 0),
        7: Insn(EXIT, 0, 0, 0, 0),
    }
    found, end = why([7, 6, 5, 4, 3, 2, 1, 0], program, 1)
    assert [one.number for one in found] == [6, 5, 4, 2, 1, 0]
    assert [one.what for one in found] == [
        "R3 is added to R1; see `bpf-why r3`",
        "R2 is copied to R1",
        "R2 is loaded from fp-8",
        "R0 is stored to fp-8",
        "not taken",
        "the call returns it",
    ]
    assert end == ""


# 0: r6 = r1; 1: call pc+2 (4); 2: r2 = r0; 3: exit; 4: r0 = r1; 5: exit
CALLS = {
    0: Insn(MOV_REG, 6, 1, 0, 0),
    1: Insn(CALL, 0, 1, 0, 2),
    2: Insn(MOV_REG, 2, 0, 0, 0),
    3: Insn(EXIT, 0, 0, 0, 0),
    4: Insn(MOV_REG, 0, 1, 0, 0),
    5: Insn(EXIT, 0, 0, 0, 0),
}


def test_what_a_function_returns_is_followed_into_it() -> None:
    found, end = why([3, 2, 5, 4, 1, 0], CALLS, 2)
    assert [(one.number, one.what) for one in found] == [
        (2, "R0 is copied to R2"),
        (5, "the function returns it"),
        (4, "R1 is copied to R0"),
        (1, "it is passed as R1"),
    ]
    assert end.startswith("R1 is the argument")


def test_the_callers_registers_are_not_those_of_a_function() -> None:
    found, end = why([3, 2, 5, 4, 1, 0], CALLS, 6)
    assert [one.number for one in found] == [0]
    assert end.startswith("R1 is the argument")
    found, _ = why([3, 2, 5, 4, 1, 0], CALLS, 3)
    assert [one.what for one in found] == ["a call makes R1 to R5 unreadable"]


def test_the_upper_half_of_a_load_writes_nothing() -> None:
    program = {
        0: Insn(CALL, 0, 0, 0, 5),
        1: Insn(0x18, 1, 1, 0, 7),
        2: Insn(0, 0, 0, 0, 0),
        3: Insn(EXIT, 0, 0, 0, 0),
    }
    assert [one.number for one in why([3, 2, 1, 0], program, 0)[0]] == [0]
    assert [one.number for one in why([3, 2, 1, 0], program, 1)[0]] == [1]


def test_what_no_instruction_wrote() -> None:
    assert (
        why([1, 0], {0: Insn(MOV_IMM, 3, 0, 0, 1)}, 7)[1] == "nothing on the known path writes R7"
    )
    assert "frame pointer" in why([0], {}, 10)[1]


def test_parts_are_of_one_line() -> None:
    lines = {0: ("a.c", 1, "x"), 1: ("a.c", 1, "x"), 2: ("a.c", 2, "y"), 5: ("a.c", 2, "y")}
    found = list(stretches([5, 2, 1, 0], lines.get))
    assert [(one.numbers, one.next) for one in found] == [([0, 1], 2), ([2], 5), ([5], None)]


STORE_1, ADD_IMM, STORE_IMM = 0x73, 0x07, 0x7A
PROBE_READ, LOOKUP, LOOP = 113, 1, 181
GO = Insn(EXIT, 0, 0, 0, 0)


def last(program: list[Insn], register: int, way: list[int] | None = None) -> tuple[int, str]:
    """Return the oldest reason at the end of a program, or of a way through it."""
    numbers = list(range(len(program))) if way is None else way
    found, _ = why(numbers[::-1], dict(enumerate(program)), register)
    return found[-1].number, found[-1].what


def pointer(register: int, offset: int) -> list[Insn]:
    """Return the two instructions that let a register point to the stack."""
    return [Insn(MOV_REG, register, 10, 0, 0), Insn(ADD_IMM, register, 0, 0, offset)]


def test_a_helper_may_write_a_slot_that_it_gets_a_pointer_to() -> None:
    begin = [Insn(STORE_IMM, 10, 0, -8, 0)]
    end = [Insn(LOAD, 1, 10, -8, 0), GO]
    size = [Insn(MOV_IMM, 2, 0, 0, 8)]
    calls = [*begin, *pointer(1, -8), *size, Insn(CALL, 0, 0, 0, PROBE_READ), *end]
    assert last(calls, 1) == (4, "it may write fp-8, through R1")
    # Its 8 bytes end in front of the slot.
    beside = [*begin, *pointer(1, -16), *size, Insn(CALL, 0, 0, 0, PROBE_READ), *end]
    assert last(beside, 1) == (0, "a constant is stored to fp-8")
    # A key is only read.
    reads = [*begin, *pointer(2, -8), Insn(CALL, 0, 0, 0, LOOKUP), *end]
    assert last(reads, 1) == (0, "a constant is stored to fp-8")
    # Kernel functions have numbers of their own.
    kfunc = [*begin, *pointer(2, -8), Insn(CALL, 0, 2, 0, LOOKUP), *end]
    assert last(kfunc, 1) == (3, "it may write fp-8, through R2")


def test_a_slot_may_be_written_through_another_register() -> None:
    begin = [Insn(STORE_IMM, 10, 0, -8, 0), *pointer(3, -16)]
    end = [Insn(LOAD, 1, 10, -8, 0), GO]
    whole = [*begin, Insn(STORE, 3, 4, 8, 0), *end]
    assert [one.what for one in why([5, 4, 3, 2, 1, 0], dict(enumerate(whole)), 1)[0]] == [
        "R1 is loaded from fp-8",
        "R4 is stored to fp-8",
    ]
    assert last([*begin, Insn(STORE_1, 3, 4, 11, 0), *end], 1) == (3, "it writes a part of fp-8")
    assert last([*begin, Insn(STORE_1, 3, 4, 16, 0), *end], 1)[0] == 0
    unknown = [*begin, Insn(ADD_REG, 3, 4, 0, 0), Insn(STORE_1, 3, 4, 0, 0), *end]
    assert last(unknown, 1) == (4, "it may write fp-8, through R3")
    # A pointer that comes from a call is none into the stack; a spilled one is followed.
    other = [Insn(STORE_IMM, 10, 0, -8, 0), Insn(CALL, 0, 0, 0, LOOKUP)]
    assert last([*other, Insn(STORE_1, 0, 4, 0, 0), *end], 1)[0] == 0
    spilled = [Insn(STORE, 10, 3, -24, 0), Insn(LOAD, 5, 10, -24, 0), Insn(STORE, 5, 4, 8, 0)]
    assert last([*begin, *spilled, *end], 1) == (5, "R4 is stored to fp-8")


def test_a_function_writes_a_slot_of_its_caller() -> None:
    program = [
        Insn(STORE_IMM, 10, 0, -8, 0),
        *pointer(1, -8),
        Insn(CALL, 0, 1, 0, 2),
        Insn(LOAD, 1, 10, -8, 0),
        GO,
        Insn(STORE, 1, 2, 0, 0),
        GO,
    ]
    way = [0, 1, 2, 3, 6, 7, 4, 5]
    assert last(program, 1, way) == (3, "it is passed as R2")
    # The own frame of the function has the same offsets.
    program[6] = Insn(STORE, 10, 2, -8, 0)
    assert last(program, 1, way) == (0, "a constant is stored to fp-8")
    # A global function is checked alone: it is not on the path.
    assert last(program, 1, [0, 1, 2, 3, 4, 5]) == (3, "it may write fp-8, through R1")


# 0-1: r3 = fp-8; 2: call bpf_loop; 3: exit; 4: r6 = r1; 5: exit
CALLBACK = [*pointer(3, -8), Insn(CALL, 0, 0, 0, LOOP), GO, Insn(MOV_REG, 6, 1, 0, 0), GO]


def test_a_callback_gets_its_arguments_from_the_kernel() -> None:
    passes = (2, "the kernel calls this function back, and passes it R1")
    assert last(CALLBACK, 6, [0, 1, 2, 4, 5]) == passes
    nothing = (2, "it enters the function, in which nothing has written R0")
    assert last(CALLBACK, 0, [0, 1, 2, 4, 5]) == nothing
    # What it returns is not what the helper returns, whether the helper is visited again or not.
    assert last(CALLBACK, 0, [0, 1, 2, 4, 5, 3]) == (2, "the call returns it")
    assert last(CALLBACK, 0, [0, 1, 2, 4, 5, 2, 3]) == (2, "the call returns it")


def test_the_path_of_an_asynchronous_callback_ends_where_it_was_set() -> None:
    insn = dict(enumerate(CALLBACK)).__getitem__
    # What is in front of the call is only what has the numbers before it.
    assert list(of_callback([5, 4, 2, 1, 0], insn, 0)) == [5, 4, 2]
    # It has called a function of the program, and is in there.
    assert list(of_callback([5, 4, 2, 4, 2, 1], insn, 1)) == [5, 4, 2, 4, 2]


def test_a_hint_is_given_while_the_register_is_the_same() -> None:
    adds = [Insn(ADD_REG, 1, 3, 0, 0), GO]
    assert last(adds, 1) == (0, "R3 is added to R1; see `bpf-why r3`")
    assert last([adds[0], Insn(MOV_IMM, 3, 0, 0, 1), GO], 1) == (0, "R3 is added to R1")


def test_each_condition_of_a_part_is_a_choice() -> None:
    program = {
        0: Insn(IF_ZERO, 0, 0, 3, 0),
        1: Insn(MOV_IMM, 0, 0, 0, 0),
        2: Insn(IF_ZERO, 0, 0, 3, 0),
    }
    (first, second) = stretches([6, 2, 1, 0], lambda number: None)
    found = [(one.number, one.how) for one in choices(first, program.__getitem__)]
    assert found == [(0, "not taken"), (2, "taken, to 6")]
    assert not list(choices(second, program.__getitem__))


def test_calls_and_returns_are_choices() -> None:
    insn = dict(enumerate(CALLBACK)).__getitem__
    way = stretches([3, 5, 4, 2, 1, 0], lambda number: None)
    found = [(one.number, one.how, one.deeper) for part in way for one in choices(part, insn)]
    assert found == [(2, "calls back, to 4", 1), (5, "", -1)]


def test_a_long_loop_is_walked_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each store is asked where it goes, and a walk back for each would take minutes."""
    steps = 0
    effect = _Walk.effect

    def count(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return effect(*arguments)

    monkeypatch.setattr(_Walk, "effect", count)
    begin = [Insn(STORE_IMM, 10, 0, -8, 0), Insn(CALL, 0, 0, 0, LOOKUP)]
    body = [Insn(STORE_1, 0, 4, 0, 0), Insn(MOV_IMM, 1, 0, 0, 0)]
    program = [*begin, *body, Insn(LOAD, 1, 10, -8, 0), GO]
    way = [0, 1, *[2, 3] * 1_000, 4, 5]
    assert last(program, 1, way) == (0, "a constant is stored to fp-8")
    assert steps < 3 * len(way)
