"""Strategies of hypothesis for verifications with arbitrary content."""

from hypothesis import strategies as st

from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, MapResult, ProgramResult, Statistics, Verification

_counts = st.none() | st.integers(0, 1 << 40)

statistics = st.builds(
    Statistics,
    verifier_us=_counts,
    instructions_processed=_counts,
    instructions_limit=st.none() | st.just(1_000_000),
    stack_depth=_counts,
    jited_bytes=_counts,
)
programs = st.builds(
    ProgramResult,
    object=st.text(max_size=20),
    program=st.text(max_size=20),
    outcome=st.sampled_from(Outcome),
    code=st.none() | st.sampled_from(Code),
    reason=st.text(max_size=20),
    attached=st.none() | st.booleans(),
    seconds=st.floats(0, 1e6),
    statistics=statistics,
)
maps = st.builds(MapResult, object=st.text(), name=st.text(), type=st.text(), memory_bytes=_counts)
verifications = st.builds(
    Verification,
    kernel=st.sampled_from(("5.10", "6.1", "7.3")),
    outcome=st.sampled_from(Outcome),
    reason=st.text(max_size=20),
    programs=st.lists(programs, max_size=5).map(tuple),
    maps=st.lists(maps, max_size=2).map(tuple),
)
