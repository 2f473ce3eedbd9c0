from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.host.excerpt import Clip


@given(st.lists(st.text(max_size=12)), st.integers(2, 30))
def test_begin_and_end_are_kept(pieces: list[str], limit: int) -> None:
    clip = Clip(limit)
    for piece in pieces:
        clip.append(piece)
    whole, half = "".join(pieces), limit // 2
    if len(whole) <= 2 * half:
        assert str(clip) == whole
    else:
        missing = len(whole) - 2 * half
        note = f"\n... {missing} characters left out ...\n"
        assert str(clip) == whole[:half] + note + whole[-half:]


def test_it_holds_no_more_than_it_must() -> None:
    clip = Clip(1000)
    for _ in range(10_000):
        clip.append("x" * 100)
    assert len(clip._head) + len(clip._tail) <= 2000
    assert str(clip).count("\n") == 2
