"""The samples of a recording, as the tracer prints them."""

import json
from pathlib import Path

import pytest

from bpfmatrix.profile.samples import Code, Frame, LostSamples, read
from tests.profile.recorded import lost, stack, write_samples

F = {"identity": "1:0:0:3:0000000000000000", "file": "/a.py", "function": "f", "table": "8000"}
G = {"identity": "2:0:0:3:0000000000000000"}


def test_stacks_are_put_together_from_their_parts(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    deep = [(F, 2), *[(G, 4)] * 5, (F, 6)]
    write_samples(
        path, stack(deep, 7, tid=5), stack([(G, 4)], 1, tid=6, truncated="too deep"), stack([], 2)
    )
    samples = read(path)
    f, g = Code(**F), Code(**G)
    assert samples.frames == (Frame(f, 2), Frame(g, 4), Frame(f, 6))
    one, two, empty = samples.stacks
    assert (one.frames, one.count, one.thread, one.truncated) == ((0, 1, 1, 1, 1, 1, 2), 7, 5, "")
    assert (two.frames, two.count, two.thread, two.truncated) == ((1,), 1, 6, "too deep")
    assert empty.frames == ()


@pytest.mark.parametrize(
    "line",
    [
        "[",
        "[]",
        "{}",
        "1",
        '{"output": "x"}',
        '{"code": 1, "part": 2}',
        '{"code": {"number": 1}}',
        '{"code": {"identity": "x"}}',
        '{"part": {"number": 1, "frames": [[9, 0]]}}',
        '{"part": {"number": 1, "frames": [[9]]}}',
        '{"part": {"number": 2, "frames": [[1, "x"]]}}',
        '{"part": {"number": 2, "frames": [[1, null]]}}',
        '{"code": {"number": 2, "identity": 5}}',
        '{"lost": {"pid": 1, "process": "", "code": 9, "offset": 0, "count": 1}}',
        '{"lost": {"pid": 1, "process": "", "code": 1, "count": 1}}',
        '{"lost": {"pid": 1, "process": "", "code": 1, "offset": 0, "count": "x"}}',
        '{"stack": {"parts": [9], "count": 1, "pid": 1, "tid": 1, "process": ""}}',
        '{"stack": {"parts": [], "pid": 1, "tid": 1, "process": ""}}',
    ],
)
def test_a_line_of_something_else_costs_no_other(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(f"{json.dumps({'code': {'number': 1, **G}})}\n{line}\n")
    with path.open("a") as file:
        for more in (
            {"part": {"number": 1, "frames": [[1, 2]]}},
            {"stack": {"parts": [1], "count": 3, "pid": 1, "tid": 1, "comm": "", "process": ""}},
        ):
            file.write(f"{json.dumps(more)}\n")
    samples = read(path)
    assert [stack.count for stack in samples.stacks] == [3]
    assert samples.unread == 1
    assert samples.first_unread.startswith("line 2: ")


def test_lost_samples_have_the_frames_of_others(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_samples(path, stack([(F, 0)]), lost(F, 0, 3), lost(G, 0, 2, "y"))
    samples = read(path)
    assert samples.frames == (Frame(Code(**F), 0), Frame(Code(**G), 0))
    assert samples.lost == (LostSamples(0, 3, "x"), LostSamples(1, 2, "y"))
