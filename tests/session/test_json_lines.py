"""Output of a guest, read as lines of JSON."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.session.json_lines import JsonLines

OUTPUT = b'{"a": 1}\n\npanic: {"b"\n{"c": \n[1]\n{"d": {"e": "\\n"}}\n{"last": true}'
LINES: list[tuple[bytes, dict[str, Any] | None]] = [
    (b'{"a": 1}', {"a": 1}),
    (b'panic: {"b"', None),
    (b'{"c": ', None),
    (b"[1]", None),
    (b'{"d": {"e": "\\n"}}', {"d": {"e": "\n"}}),
    (b'{"last": true}', {"last": True}),
]


@given(st.lists(st.integers(0, len(OUTPUT)), max_size=8))
def test_lines_are_the_same_in_whatever_pieces_the_output_comes(cuts: list[int]) -> None:
    reader, found, begin = JsonLines(), [], 0
    for end in [*sorted(cuts), len(OUTPUT)]:
        found += reader.feed(OUTPUT[begin:end])
        begin = end
    assert found + reader.close() == LINES
    assert reader.close() == []


def test_a_line_that_is_too_long_is_left_out() -> None:
    reader, found = JsonLines(limit_bytes=8), []
    for piece in (b"a\n", b"x" * 6, b"x" * 6, b"x" * 3, b"x\nb\n"):
        found += reader.feed(piece)
    assert found == [(b"a", None), (b"b", None)]
