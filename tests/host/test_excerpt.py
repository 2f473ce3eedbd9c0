from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.host.excerpt import Excerpt


@given(st.lists(st.text(max_size=12)), st.integers(2, 30))
def test_beginning_and_end_are_kept(pieces: list[str], limit: int) -> None:
    excerpt = Excerpt(limit)
    for piece in pieces:
        excerpt.append(piece)
    whole, half = "".join(pieces), limit // 2
    if len(whole) <= 2 * half:
        assert str(excerpt) == whole
    else:
        missing = len(whole) - 2 * half
        note = f"\n... {missing} characters left out ...\n"
        assert str(excerpt) == whole[:half] + note + whole[-half:]


def test_it_holds_no_more_than_it_must() -> None:
    excerpt = Excerpt(1000)
    for _ in range(10_000):
        excerpt.append("x" * 100)
    assert len(excerpt._head) + len(excerpt._tail) <= 2000
    assert str(excerpt).count("\n") == 2
