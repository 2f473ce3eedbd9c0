"""The search for the kernel on which the answer changes, and the number of its questions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.bisect.search import Answer, EndError, search

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
