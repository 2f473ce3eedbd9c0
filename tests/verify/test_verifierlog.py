from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.verify.source_lines import annotate, explain
from bpfmatrix.verify.verifierlog import LineInfo, lines_of, rejection, walks

# What 5.10 and 7.3 say of the same program: a lookup's result used without a check.
OLD = """\
; int on_sample(void *ctx)
0: (b7) r1 = 0
1: (63) *(u32 *)(r10 -4) = r1
last_idx 1 first_idx 0
regs=2 stack=0 before 0: (b7) r1 = 0
2: R1_w=invP0 R10=fp0 fp-8=0000????
; __u64 *count = bpf_map_lookup_elem(&counts, &key);
2: (85) call bpf_map_lookup_elem#1
3: R0_w=map_value_or_null(id=1,off=0,ks=4,vs=8,imm=0) R10=fp0 fp-8=mmmm????
; *count += 1;
3: (79) r1 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
verification time 66 usec
stack depth 4
processed 4 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
NEW = """\
0: R1=ctx() R10=fp0
; int on_sample(void *ctx) @ sample.bpf.c:10
0: (b7) r1 = 0                        ; R1_w=0
1: (63) *(u32 *)(r10 -4) = r1         ; R1_w=0 R10=fp0 fp-8=0000????
; __u64 *count = bpf_map_lookup_elem(&counts, &key); @ sample.bpf.c:12
2: (85) call bpf_map_lookup_elem#1    ; R0_w=map_value_or_null(id=1,map=counts,ks=4,vs=8)
; *count += 1; @ sample.bpf.c:13
3: (79) r1 = *(u64 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
verification time 66 usec
stack depth 4
processed 4 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
LINES = [
    LineInfo(0, "../ebpf/sample.bpf.c", 10, "int on_sample(void *ctx)"),
    LineInfo(2, "../ebpf/sample.bpf.c", 12, "\t__u64 *count = bpf_map_lookup_elem(&counts, &key);"),
    LineInfo(3, "../ebpf/sample.bpf.c", 13, "\t*count += 1;"),
]


@pytest.mark.parametrize("log", [OLD, NEW])
def test_a_rejection_has_instruction_registers_and_message(log: str) -> None:
    found = rejection(log)
    assert found.instruction == 3
    assert found.disassembly == "r1 = *(u64 *)(r0 +0)"
    assert found.registers
    assert found.registers["R0"].startswith("map_value_or_null(id=1,")
    assert found.message == ("R0 invalid mem access 'map_value_or_null'",)
    assert found.walked == (0, 1, 2, 3)


@pytest.mark.parametrize("log", [OLD, NEW])
def test_a_rejection_is_shown_beside_its_source(log: str) -> None:
    shown = explain(log, LINES)
    assert shown.source == "../ebpf/sample.bpf.c:13"
    lines = shown.text.splitlines()
    assert lines[1:4] == [
        "../ebpf/sample.bpf.c:12  __u64 *count = bpf_map_lookup_elem(&counts, &key);",
        "../ebpf/sample.bpf.c:13  *count += 1;",
        "  3: r1 = *(u64 *)(r0 +0)",
    ]
    assert lines[4].startswith("  R0=map_value_or_null(id=1,")
    assert len(lines) == 6
    assert lines[-1] == "R0 invalid mem access 'map_value_or_null'"


def test_without_btf_lines_the_logs_own_serve() -> None:
    assert explain(NEW, []).source == "sample.bpf.c:13"
    assert "*count += 1;" in explain(OLD, []).text


def test_a_state_with_a_space_in_it_is_whole() -> None:
    log = (
        "5: R0=inv(id=0,umax_value=255,var_off=(0x0; 0xff)) R1=ctx(id=0,off=0,imm=0)\n"
        "5: (0f) r1 += r0\nmath between ctx pointer and register with unbounded min value\n"
    )
    assert rejection(log).registers == {
        "R1": "ctx(id=0,off=0,imm=0)",
        "R0": "inv(id=0,umax_value=255,var_off=(0x0; 0xff))",
    }


def test_a_log_that_never_came_to_an_instruction_has_its_message() -> None:
    found = rejection(
        "func#0 @0\nunknown func bpf_no_such#4711\nprocessed 0 insns (limit 1000000)\n"
    )
    assert found.instruction is None
    assert found.message[-1] == "unknown func bpf_no_such#4711"
    assert explain("", []).text == ""


def test_a_path_begins_where_the_verifier_came_back_to() -> None:
    log = "0: (b7) r1 = 0\n1: (95) exit\nfrom 0 to 7: R1=0\n7: (bf) r2 = r3\nR3 !read_ok\n"
    assert rejection(log).walked == (7,)
    assert rejection(log).registers == {}


@given(st.lists(st.integers(0, 20), max_size=60))
def test_each_walk_is_counted(path: list[int]) -> None:
    log = [f"{number}: (bf) r1 = r2{'' if number % 2 else ' ; R1=1'}" for number in path]
    noise = [f"{number}: R1=1 R10=fp0" for number in path]
    mixed = [line for pair in zip(noise, log, strict=True) for line in pair]
    assert walks(mixed) == Counter(path)


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 300))
def test_a_listing_of_the_program_is_no_walk(path: list[int], size: int) -> None:
    listed = [f"{number:3d}: (bf) r1 = r2" for number in range(size)]
    walked = [f"{number}: (bf) r1 = r2" for number in path]
    log = [
        "func#0 @0",
        "subprog#0 main:",
        *listed,
        "stack use/def subprog#0 main (d0,cs0):",
        *listed,
        "Live regs before insn:",
        *(f"     {line.replace('(bf)', '.1........ (bf)')}" for line in listed),
        "0: R1=ctx() R10=fp0",
        *walked,
    ]
    assert walks(log) == Counter(path)


def test_a_walk_to_what_is_known_to_be_safe_counts() -> None:
    log = [
        "0: (bf) r1 = r2",
        "from 5 to 11: safe",
        "",
        "7: safe",
        "7 (speculative execution): safe",
    ]
    assert walks(log) == Counter({0: 1, 11: 1, 7: 2})


def test_a_message_without_an_end_of_line_is_not_followed_by_statistics() -> None:
    message = "insn 3 cannot call exception cb directly"
    for statistics in (
        "verification time 25562 usec\nstack depth 0",
        "processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0",
    ):
        log = f"3: (85) call pc+2\n{message}{statistics}\n"
        assert rejection(log).message == (message,)


def test_the_explanation_of_new_kernels_is_left_to_the_log() -> None:
    log = (
        "7: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access 'map_value_or_null'\n\n"
        "Verification failed: Register Type Safety\n\nReason:\n  R0 may be NULL here\n"
    )
    assert rejection(log).message == ("R0 invalid mem access 'map_value_or_null'",)


@given(
    st.lists(st.integers(0, 40), max_size=80),
    st.dictionaries(st.integers(0, 40), st.integers(1, 9), max_size=10),
)
def test_no_walk_and_no_instruction_is_lost(path: list[int], begins: dict[int, int]) -> None:
    lines = [LineInfo(begin, "a.c", number, f"line {number}") for begin, number in begins.items()]
    log = [f"{number}: (bf) r1 = r2" for number in path]
    found = annotate(log, lines, 50)
    whole = [line for file in found.files.values() for line in file]
    assert sum(line.walks or 0 for line in whole) + found.unknown_walks == len(path)
    assert sum(line.instructions or 0 for line in whole) == 50 - min(begins, default=50)
    assert [line.number for line in whole] == sorted(set(begins.values()))


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    explain(text, lines_of(text.splitlines()))
    annotate(text.splitlines(), [])


def test_lines_of_a_log() -> None:
    assert [(one.instruction, one.line) for one in lines_of(NEW.splitlines())] == [
        *((0, 10), (2, 12), (3, 13)),
    ]
