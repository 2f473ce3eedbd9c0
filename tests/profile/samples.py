"""Stacks for the tests of profiles."""

from hypothesis import strategies as st

from bpfmatrix.profile.stacks import SourceLine, Stack

LINES = [SourceLine(f"/x/{file}.py", number, "f") for file in "ab" for number in (0, 1, 2)]
STACKS = st.lists(
    st.builds(
        Stack,
        st.lists(st.sampled_from(LINES), min_size=1, max_size=6).map(tuple),
        st.integers(1, 50),
        st.integers(1, 3),
        st.just("") | st.sampled_from(["worker 8", "main.py 7"]),
        st.sampled_from(["", "too deep"]),
    ),
    max_size=8,
)
