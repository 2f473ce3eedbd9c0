"""The statistics of a load: from the verifier's log, and from the numbers that a loader reports.

The lines are those that BPF_LOG_STATS adds at the end of a log (print_verification_stats of
kernel/bpf/verifier.c):

    verification time 66 usec
    stack depth 4+16
    processed 4 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

In place of the second line, kernels from 7.3 on have one for each function,
`subprog 0 (on_exec): ... stack 4`. Linux 5.1 and older have none of these lines.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bpfmatrix.results.verification import Statistics

__all__ = ["deepest_stack", "read_statistics"]

_TIME = re.compile(r"^verification time (\d+) usec", re.M)
_DEPTHS = re.compile(r"^stack depth ([\d+]+)", re.M)
_FUNCTION_DEPTH = re.compile(r"^subprog \d+ \(.* stack (\d+)", re.M)
_PROCESSED = re.compile(
    r"^processed (\d+) insns \(limit (\d+)\)"
    r"(?: max_states_per_insn (\d+) total_states (\d+) peak_states (\d+))?",
    re.M,
)
_NUMBERS = {
    "instructions": "program_instructions",
    "translated_bytes": "translated_bytes",
    "jited_bytes": "jited_bytes",
    "memory_bytes": "memory_bytes",
}


def read_statistics(event: Mapping[str, Any], log: str) -> Statistics:
    """Return the statistics of a program.

    `event` has what its loader reports: `instructions`, `translated_bytes`, `jited_bytes`,
    `memory_bytes` and `calls`. `log` is the verifier's log, or the end of it. TypeError or
    ValueError if one of them is no number.
    """
    found: dict[str, int | None] = {}
    for name, field in _NUMBERS.items():
        value = event.get(name)
        if value is not None:
            found[field] = _count(value)
    # A loader that tries twice may report both logs; the last one counts.
    start = log.rfind("\nverification time ")
    text = log[start + 1 :] if start >= 0 else log
    if match := _TIME.search(text):
        found["verifier_us"] = int(match[1])
    if match := _DEPTHS.search(text):
        depths = [int(one) for one in match[1].split("+") if one]
        found["stack_depth"] = deepest_stack(depths, event.get("calls") or ())
    elif functions := _FUNCTION_DEPTH.findall(text):
        found["stack_depth"] = deepest_stack(
            [int(one) for one in functions], event.get("calls") or ()
        )
    if match := _PROCESSED.search(text):
        names = (
            "instructions_processed",
            "instructions_limit",
            "max_states_per_instruction",
            "total_states",
            "peak_states",
        )
        found |= {name: int(one) for name, one in zip(names, match.groups(), strict=True) if one}
    return Statistics(**found)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number of something")
    return value


def deepest_stack(depths: Sequence[int], calls: Sequence[Sequence[int] | None]) -> int | None:
    """Return the bytes of stack that the deepest chain of calls uses; None if no depth is known.

    `depths` are the bytes of each function, in the order of the code, and `calls` the numbers of
    the functions that each of them calls. Without calls, it is the depth of the largest function.
    """
    if not depths:
        return None
    if len(calls) != len(depths):
        return max(depths)
    known: dict[int, int] = {}
    # An explicit stack of calls, since a program may have more functions than Python has frames.
    # A call of a function that is being walked is left out: the verifier allows no recursion.
    path, walking = [0], {0}
    while path:
        number = path[-1]
        callees = [one for one in calls[number] or () if 0 <= one < len(depths)]
        waiting = [one for one in callees if one not in known and one not in walking]
        if waiting:
            path.append(waiting[0])
            walking.add(waiting[0])
        else:
            known[number] = depths[number] + max((known.get(one, 0) for one in callees), default=0)
            walking.discard(path.pop())
    return known[0]
