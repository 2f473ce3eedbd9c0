"""What `--filter`, `--sort` and `--top` mean: as veristat's users know them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Statistics, Verification
from bpfmatrix.verify.columns import COLUMNS, column, verdict_of
from bpfmatrix.verify.selection import (
    Comparison,
    Names,
    Result,
    Selection,
    may_load,
    parse_filter,
    parse_sort,
    to_load,
)

ON = Verification("6.1", Outcome.FAILED)


def names(*texts: str) -> list[Names]:
    found = [parse_filter(text) for text in texts]
    assert all(isinstance(one, Names) for one in found)
    return [one for one in found if isinstance(one, Names)]


def comparisons(*texts: str) -> tuple[Comparison, ...]:
    found = [parse_filter(text) for text in texts]
    return tuple(one for one in found if isinstance(one, Comparison))


@pytest.mark.parametrize(
    ("filters", "loaded"),
    [
        ([], "tcp/one tcp/two udp/one udp/tcp"),
        (["tcp*"], "tcp/one tcp/two udp/tcp"),
        (["tcp.o/"], "tcp/one tcp/two"),
        (["build/tcp.o/"], "tcp/one tcp/two"),
        (["/tcp*"], "udp/tcp"),
        (["tcp*/one"], "tcp/one"),
        (["build/*/one"], "tcp/one udp/one"),
        (["tcp.o/one", "udp.o/tcp"], "tcp/one udp/tcp"),
        (["!one"], "tcp/two udp/tcp"),
        (["tcp.o", "!*/one"], "tcp/two"),
        (["!tcp*"], "udp/one"),
        (["none"], ""),
    ],
)
def test_patterns_choose_what_is_loaded(filters: list[str], loaded: str) -> None:
    programs = {"tcp": ("one", "two"), "udp": ("one", "tcp")}
    chosen = names(*filters)
    found = [
        f"{object}/{program}"
        for object in programs
        for program in programs[object]
        if to_load(chosen, f"build/{object}.o", program)
    ]
    assert " ".join(found) == loaded


def test_an_object_is_read_only_if_a_program_of_it_could_be_loaded() -> None:
    assert may_load(names("x*"), "a.o")
    assert may_load(names("/x*"), "a.o")
    assert not may_load(names("x*/y"), "a.o")
    assert not may_load(names("!a*/"), "dir/a.o")
    assert may_load(names("!a*/y"), "a.o")


pattern = st.text("ab*/!", min_size=1, max_size=5).filter(
    lambda text: text.removeprefix("!").replace("/", "", 1)
)


@given(st.lists(pattern, max_size=4), st.text("ab", min_size=1), st.text("ab", min_size=1))
def test_no_program_is_loaded_of_an_object_that_is_not_read(
    texts: list[str], object: str, program: str
) -> None:
    chosen = names(*texts)
    assert may_load(chosen, object) or not to_load(chosen, object, program)


def result(program: str, insns: int | None, **keys: object) -> Result:
    statistics = Statistics(instructions_processed=insns)
    values = {"outcome": Outcome.PASSED, **keys}
    return ON, ProgramResult("a.o", program, statistics=statistics, **values)  # type: ignore[arg-type]


SMALL, LARGE = result("small", 5, type="xdp"), result("large", 2000, type="kprobe")
BAD = result("bad", None, outcome=Outcome.FAILED, code=Code.VERIFIER_REJECTED)


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (["insns>5"], "large"),
        (["total_insns >= 5"], "small large"),
        (["insns<>5"], "large"),
        (["insns=2,000"], "large"),
        (["verdict==failure"], "bad"),
        (["verdict!=fail"], "small large"),
        (["code==verifier*"], "bad"),
        (["code!=verifier-rejected"], "small large"),
        (["!insns>5"], "small bad"),
        (["insns<10", "verdict=f"], "small bad"),
        (["type==kprobe", "!insns>5"], ""),
        (["kernel==6.*"], "small large bad"),
    ],
)
def test_comparisons_choose_what_is_shown(filters: list[str], shown: str) -> None:
    selection = Selection(comparisons(*filters))
    rows = selection.of([SMALL, LARGE, BAD], lambda row: [row])
    assert " ".join(program.program for _, program in rows) == shown


@pytest.mark.parametrize(
    ("order", "shown"),
    [
        ("insns", "large small bad"),
        ("insns^", "small large bad"),
        ("insnsv", "large small bad"),
        ("insns_asc", "small large bad"),
        ("insns_desc", "large small bad"),
        ("prog", "bad large small"),
        ("prog_name.", "small large bad"),
        ("verdict", "bad small large"),
        ("verdict,insns", "bad large small"),
        ("type", "large small bad"),
    ],
)
def test_rows_are_sorted_and_what_has_no_value_comes_last(order: str, shown: str) -> None:
    selection = Selection(order=parse_sort(order))
    rows = selection.of([SMALL, LARGE, BAD], lambda row: [row])
    assert " ".join(program.program for _, program in rows) == shown


def test_the_first_rows_are_those_of_the_order() -> None:
    selection = Selection(order=parse_sort("insns"), top=1)
    assert selection.of([SMALL, LARGE, BAD], lambda row: [row]) == [LARGE]
    assert Selection(top=0).of([SMALL], lambda row: [row]) == []
    assert Selection(top=0)
    assert not Selection()


def test_a_row_of_several_kernels_has_the_place_of_its_best_result() -> None:
    rows = [[SMALL], [BAD, LARGE], [BAD]]
    assert Selection(order=parse_sort("insns")).of(rows, list) == [[BAD, LARGE], [SMALL], [BAD]]
    assert Selection(comparisons("insns>1000")).of(rows, list) == [[BAD, LARGE]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected FILE/PROGRAM"),
        ("!", "expected FILE/PROGRAM"),
        ("/", "expected FILE/PROGRAM"),
        ("insn>5", 'there is no column "insn" .did you mean "insns"'),
        ("insns>many", '"many" is no number, as total_insns is'),
        ("type>kprobe", "prog_type is a text"),
        ("verdict==maybe", "a verdict is success or failure"),
        ("a b>5", "expected a comparison"),
        ("insns", None),
    ],
)
def test_what_is_no_filter_is_refused(text: str, sentence: str | None) -> None:
    if sentence is None:  # a pattern of names, though a column has this name
        assert isinstance(parse_filter(text), Names)
        return
    with pytest.raises(ValueError, match=sentence):
        parse_filter(text)


def test_every_column_can_be_sorted_by_and_has_one_meaning() -> None:
    all_names = [name for each in COLUMNS for name in (each.name, *each.aliases)]
    assert len(set(all_names)) == len(all_names)
    for name in all_names:
        for order, descending in (("^", False), ("v", True), ("_asc", False), ("_desc", True)):
            (key,) = parse_sort(name + order)
            assert (key.column, key.descending) == (column(name), descending)


def test_a_verdict_is_what_the_kernel_said() -> None:
    def verdict(outcome: Outcome, code: Code | None) -> str:
        return verdict_of(ProgramResult("a.o", "p", outcome, code=code))

    assert verdict(Outcome.PASSED, None) == "success"
    assert verdict(Outcome.FAILED, Code.VERIFIER_REJECTED) == "failure"
    assert verdict(Outcome.SKIPPED, Code.OPTIONAL) == "failure"
    # It loaded, and fails for what was asked besides.
    assert verdict(Outcome.FAILED, Code.TOO_CLOSE) == "success"
    assert verdict(Outcome.FAILED, Code.ATTACH_FAILED) == "success"
    # Nobody asked the kernel.
    assert verdict(Outcome.SKIPPED, Code.DECLARED) == ""
    assert verdict(Outcome.INTERRUPTED, Code.NOT_RUN) == ""
