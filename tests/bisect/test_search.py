"""The searches for the kernel on which the answer changes, and the number of their questions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.bisect.search import Answer, EndError, find_ends, search, search_oldest

GOOD, BAD, UNKNOWN = Answer.GOOD, Answer.BAD, Answer.UNKNOWN


def letters(answers: str) -> list[Answer]:
    return [{"g": GOOD, "b": BAD, "?": UNKNOWN}[letter] for letter in answers]


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([GOOD, BAD]))
def test_a_single_change_is_found_by_a_binary_search(
    before: int, behind: int, first: Answer
) -> None:
    kernels = [str(number) for number in range(before + behind)]

    def ask(kernel: str) -> Answer:
        return first if int(kernel) < before else first.opposite

    found = search(kernels, first, ask)
    assert (found.before, found.after, found.unknown) == (str(before - 1), str(before), ())
    # An end is tried only if the change lies beside it.
    inner = len(kernels) - 2
    most = math.ceil(math.log2(inner + 1)) if inner else 0
    assert len(found.answers) <= most + (before == 1) + (behind == 1)


@given(st.text("gb?", max_size=40))
def test_the_change_lies_between_a_bad_and_a_good_kernel_that_were_tried(middle: str) -> None:
    told = [BAD, *letters(middle), GOOD]
    kernels = [str(number) for number in range(len(told))]
    asked: list[str] = []

    def ask(kernel: str) -> Answer:
        asked.append(kernel)
        return told[int(kernel)]

    found = search(kernels, BAD, ask)
    low, high = int(found.before), int(found.after)
    assert (told[low], told[high]) == (BAD, GOOD)
    assert found.unknown == tuple(kernels[low + 1 : high])
    assert all(told[int(kernel)] is UNKNOWN for kernel in found.unknown)
    assert {found.before, found.after, *found.unknown} <= set(found.answers)
    assert len(asked) == len(set(asked))
    assert asked == list(found.answers)


@pytest.mark.parametrize(
    ("told", "kernel", "said", "answer"),
    [
        ("gg", "0", BAD, GOOD),
        ("bb", "1", GOOD, BAD),
        ("?g", "0", BAD, UNKNOWN),
        ("b?", "1", GOOD, UNKNOWN),
        ("bbbb", "3", GOOD, BAD),
        ("gggg", "0", BAD, GOOD),
    ],
)
def test_an_end_with_another_answer_than_the_user_said_is_an_error(
    told: str, kernel: str, said: Answer, answer: Answer
) -> None:
    answers = letters(told)
    with pytest.raises(EndError) as caught:
        search([str(n) for n in range(len(told))], BAD, lambda kernel: answers[int(kernel)])
    assert caught.value.args == (kernel, said, answer)


def test_of_several_series_one_of_each_is_tried_before_the_releases_of_one() -> None:
    kernels = [f"{series}.{release}" for series in range(8) for release in range(8)]
    newest = {kernel for kernel in kernels if kernel.endswith(".7")}
    oldest = {kernel for kernel in kernels if kernel.endswith(".0")}

    def found(first_good: str) -> tuple[str, list[str]]:
        result = search(
            kernels,
            BAD,
            lambda kernel: GOOD if kernel >= first_good else BAD,
            [newest, oldest],
        )
        return result.after, list(result.answers)

    # It came with a new series: its first release says so.
    assert found("5.0") == ("5.0", ["3.7", "5.7", "4.7", "5.0"])
    # It came with a release of the series.
    after, tried = found("5.3")
    assert (after, tried[:4]) == ("5.3", ["3.7", "5.7", "4.7", "5.0"])
    assert set(tried[4:]) < {f"5.{release}" for release in range(1, 7)}


def test_an_end_is_tried_before_the_releases_of_the_series_beside_it() -> None:
    kernels = ["5.0", *(f"6.{release}" for release in range(9))]
    asked: list[str] = []

    def ask(kernel: str) -> Answer:
        asked.append(kernel)
        return GOOD

    with pytest.raises(EndError) as caught:
        search(kernels, GOOD, ask, [{"5.0", "6.8"}])
    assert caught.value.args == ("6.8", BAD, GOOD)
    assert asked == ["5.0", "6.8"]


def test_a_series_whose_kernel_can_not_be_tried_is_searched_by_its_releases() -> None:
    kernels = ["1.0", "2.0", "2.5", "2.9", "3.0"]
    told = {"1.0": BAD, "2.0": BAD, "2.5": GOOD, "2.9": UNKNOWN, "3.0": GOOD}
    found = search(kernels, BAD, told.__getitem__, [{"1.0", "2.9", "3.0"}])
    assert (found.before, found.after) == ("2.0", "2.5")


@pytest.mark.parametrize(
    ("told", "named", "ends", "asked"),
    [
        ("bbgg", {}, (0, 3), "30"),
        ("ggbb", {}, (0, 3), "30"),
        # In place of kernels that can't be tried come the next ones.
        ("?bgg??", {}, (1, 3), "54301"),
        # The named one is trusted. The other end is the newest, and only then the oldest.
        ("bbgg", {"1": BAD}, (1, 3), "3"),
        ("ggbb", {"3": BAD}, (0, 3), "0"),
        ("bbgg", {"2": GOOD}, (0, 2), "30"),
        ("ggg?", {"1": GOOD}, (0, 2), "320"),
        ("g", {}, (0, 0), "0"),
    ],
)
def test_the_ends_are_found_by_trials(
    told: str, named: dict[str, Answer], ends: tuple[int, int], asked: str
) -> None:
    answers, questions = letters(told), ""

    def ask(kernel: str) -> Answer:
        nonlocal questions
        questions += kernel
        return answers[int(kernel)]

    found = find_ends([str(number) for number in range(len(told))], ask, named)
    assert found is not None
    assert (found.first, found.last) == ends
    assert found.answers == (answers[ends[0]], answers[ends[1]])
    assert questions == asked


def test_without_any_answer_there_are_no_ends() -> None:
    assert find_ends(["0", "1"], lambda _: UNKNOWN) is None


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.sets(st.integers(0, 39)),
)
def test_the_oldest_kernel_of_each_program_is_found(since: list[int], unknown: set[int]) -> None:
    kernels = [str(number) for number in range(40)]
    asked: list[int] = []

    def ask(kernel: str) -> dict[int, Answer]:
        asked.append(int(kernel))
        if int(kernel) in unknown:
            return {}
        return {program: GOOD if int(kernel) >= since[program] else BAD for program in programs}

    programs = range(len(since))
    known = sorted(set(range(40)) - unknown)
    found = search_oldest(kernels, ask, [{str(number) for number in range(0, 40, 5)}])
    assert len(asked) == len(set(asked))
    if not known:
        assert found == {}
        return
    for program in programs:
        bad = [number for number in known if number < since[program]]
        good = [number for number in known if number >= since[program]]
        assert found[program] == (
            str(bad[-1]) if bad else None,
            str(good[0]) if good else None,
        )


def test_programs_share_their_trials() -> None:
    kernels = [str(number) for number in range(64)]
    asked: list[str] = []

    def ask(kernel: str) -> dict[str, Answer]:
        asked.append(kernel)
        return {name: GOOD if int(kernel) >= 20 else BAD for name in "abcdefgh"}

    assert set(search_oldest(kernels, ask).values()) == {("19", "20")}
    assert len(asked) <= 2 + 6
