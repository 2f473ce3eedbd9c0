"""Statistics of loads, in the formats of several releases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.verification import Statistics
from bpfmatrix.verify.statistics import deepest_stack, read_statistics

OLD = """\
verification time 66 usec
stack depth 4+16+32
processed 4 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 3 mark_read 0
"""
NEW = """\
verification time 66 usec
subprog 0 (on_exec): 12 insns, stack 4
subprog 1 (helper): 12 insns, stack 16
subprog 2 (other): 12 insns, stack 32
processed 4 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 3
"""


@pytest.mark.parametrize("log", [OLD, NEW, "R0 !read_ok\n" + OLD])
def test_the_lines_of_a_log_are_read(log: str) -> None:
    event = {
        "instructions": 40,
        "translated_bytes": 320,
        "jited_bytes": 188,
        "memory_bytes": 4096,
        "calls": [[1], None, []],
    }
    assert read_statistics(event, log) == Statistics(
        66, 4, 1000000, 3, 2, 1, 20, 40, 320, 188, 4096
    )


def test_what_a_kernel_does_not_tell_is_unknown() -> None:
    assert read_statistics({}, "") == Statistics()
    found = read_statistics({}, "processed 7 insns (limit 131072)\n")
    assert (found.instructions_processed, found.peak_states) == (7, None)


def test_the_last_of_two_logs_counts() -> None:
    log = OLD + OLD.replace("processed 4", "processed 9")
    assert read_statistics({}, log).instructions_processed == 9


@pytest.mark.parametrize(
    ("depths", "calls", "deepest"),
    [
        ([], [], None),
        ([8], [], 8),
        ([8, 16], [], 16),
        ([8, 16, 32], [[1, 2], [2], []], 56),
        ([8, 16, 32], [[1], [], []], 24),
        ([8, 16], [[1], [0]], 24),
        ([8, 16], [[7], []], 8),
    ],
)
def test_the_deepest_chain_of_calls(
    depths: list[int], calls: list[list[int]], deepest: int | None
) -> None:
    assert deepest_stack(depths, calls) == deepest


def test_a_long_chain_of_calls_is_followed() -> None:
    count = 5000
    calls = [[number + 1] for number in range(count - 1)]
    assert deepest_stack([1] * count, [*calls, []]) == count


@given(
    st.lists(st.tuples(st.integers(0, 512), st.lists(st.integers(0, 9), max_size=4)), max_size=9)
)
def test_a_chain_is_no_deeper_than_all_functions(
    functions: list[tuple[int, list[int]]],
) -> None:
    depths, calls = [depth for depth, _ in functions], [called for _, called in functions]
    deepest = deepest_stack(depths, calls)
    if deepest is not None:
        assert depths[0] <= deepest <= sum(depths)
