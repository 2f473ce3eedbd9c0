"""What the verifier's formats say, and which of its lines are reasons to reject a program."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.debug.in_gdb.messages import Lines, formatted, instruction_of, is_trace

STRINGS = {0x1000: "map_value_or_null", 0x2000: ""}


def said(format: str, *arguments: int) -> str:
    rest = iter(arguments)
    return formatted(format, lambda: next(rest), STRINGS.__getitem__)


@pytest.mark.parametrize(
    ("format", "arguments", "text"),
    [
        (
            "R%d invalid mem access '%s'\n",
            (0, 0x1000),
            "R0 invalid mem access 'map_value_or_null'\n",
        ),
        # Registers have 64 bits, of which an int takes the lower half.
        ("off=%d", (0xDEADBEEF_FFFFFFF8,), "off=-8"),
        ("off=%u", (0xDEADBEEF_FFFFFFF8,), "off=4294967288"),
        ("%lld %llu", ((1 << 64) - 2, (1 << 64) - 2), "-2 18446744073709551614"),
        ("%#x %#llx %08x", (255, 1 << 40, 10), "0xff 0x10000000000 0000000a"),
        ("%s%s!", (0, 0x2000), "(null)!"),
        ("%.*s|%*c;|%-4d|%+d", (3, 0x1000, 3, 32, 7, 7), "map|   ;|7   |+7"),
        ("100%% of %c", (0x41,), "100% of A"),
        ("%p", (0xFFFF8880,), "0xffff8880"),
    ],
)
def test_a_format_with_its_arguments(format: str, arguments: tuple[int, ...], text: str) -> None:
    assert said(format, *arguments) == text


@given(st.text(), st.integers(0, (1 << 64) - 1))
def test_no_format_is_an_error(format: str, number: int) -> None:
    formatted(format, lambda: number, lambda address: "text")


@pytest.mark.parametrize(
    "format",
    [
        # Of the logs of 5.10, 6.1 and 7.3, each at the beginning of a line.
        "%d: ",
        "%3d: ",
        "%s\n",
        "%*c;",
        "; ",
        "\nfrom %d to %d%s:",
        "%d: safe\n",
        " frame%d:",
        "frame %d: propagating r%d\n",
        " R%d",
        "func#%d @%d\n",
        "processed %d insns (limit %d) max_states_per_insn %d total_states %d",
        "stack depth ",
        "stack depth max %d\n",
        "last_idx %d first_idx %d\n",
        "mark_precise: frame%d: regs=%s ",
        "Validating %s() func#%d...\n",
        "Func#%d ('%s') is safe for any args that match its prototype\n",
        "subprog#%d: analyzing (depth %d)...\n",
        "arg JOIN insn %d -> %d ",
        "stack use/def %s ",
        "%s:\n",
        "force_precise: frame%d: forcing r%d to be precise\n",
        "signature verification passed\n",
        "mark_reg_unknown(regs, %u)\n",
        "SCC backedge %s\n",
        "%s: too many iterations\n",
        "stack=%s: ",
    ],
)
def test_what_the_verifier_writes_about_its_way_is_no_reason(format: str) -> None:
    assert is_trace(format)


@pytest.mark.parametrize(
    "format",
    [
        "R%d invalid mem access '%s'\n",
        "R%d !read_ok\n",
        "R%d type=%s expected=",
        "frame pointer is read only\n",
        "stack depth %d exceeds interpreter stack depth limit\n",
        "func#%d writes %u stack arg slots, but calls only require %u\n",
        "BPF program is too large. Processed %d insn\n",
        "back-edge from insn %d to %d\n",
        "unknown func %s#%d\n",
        "invalid indirect read from stack R%d off %d+%d size %d\n",
        "At %s the register %s ",
        "%s the register %s has",
        "Unreleased reference id=%d alloc_insn=%d\n",
        "combined stack size of %d calls is %d. Too large\n",
        "loaded while the program has only %d\n",
        "signature verification failed: %d\n",
        "%s: no such thing\n",
    ],
)
def test_what_it_rejects_a_program_for_is_a_reason(format: str) -> None:
    assert not is_trace(format)


def test_a_reason_is_told_when_its_line_is_complete() -> None:
    lines = Lines()
    parts = ["R%d type=%s expected=", "%s, ", "%s\n"]
    texts = ["R3 type=ctx expected=", "fp, ", "map_value\n"]
    told = [
        lines.add(part, lambda text=text: text)  # type: ignore[misc]
        for part, text in zip(parts, texts, strict=True)
    ]
    assert told == ["", "", "R3 type=ctx expected=fp, map_value"]


def test_the_parts_of_a_line_that_is_no_reason_are_none() -> None:
    lines = Lines()

    def never() -> str:
        raise AssertionError("it is not read")

    for part in (
        "%d: ",
        "R%d invalid, of an instruction's comment ",
        "(%02x) exit\n",
        "%d: safe\n",
    ):
        assert lines.add(part, never) == ""
    assert lines.add("math between %s pointer\n", lambda: "math between fp pointer\n")


def test_the_instruction_that_a_message_names() -> None:
    assert instruction_of("unreachable insn 12") == 12
    assert instruction_of("back-edge from insn 7 to 3") == 7
    assert instruction_of("last insn is not an exit or jmp") is None
    assert instruction_of("BPF program is too large. Processed 1000001 insn") is None
