from __future__ import annotations

import pytest

from bytecode_lines.samples import SampleError, read

FRAME = '{"identity": "12:1:0:3:9ae16a3b2f90404f", "offset": 36}'


def test_frames_and_stacks_are_read_with_all_their_keys() -> None:
    lines = [FRAME, "", '{"frames": [' + FRAME + '], "count": 3}']
    frame = {"identity": "12:1:0:3:9ae16a3b2f90404f", "offset": 36}
    assert list(read(lines)) == [frame, {"frames": [frame], "count": 3}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: Expecting property name"),
        ("x", "line 2: Expecting value: line 1 column 1"),
        ("[1, x]", "line 2: Expecting value: line 1 column 5"),
        (FRAME + "x", "line 2: Extra data: char 55"),
        ("[]", "line 2: expected an object"),
        ('{"offset": 1}', "line 2: identity: expected a string"),
        ('{"identity": "x", "offset": "1"}', "line 2: offset: expected an integer"),
        ('{"identity": "x", "offset": true}', "line 2: offset: expected an integer"),
        ('{"identity": "x", "offset": 1, "file": 1}', "line 2: file: expected a string"),
        ('{"identity": "x", "offset": 1, "table": 1}', "line 2: table: expected a string"),
        ('{"identity": "x", "offset": 1, "function": 1}', "line 2: function: expected a string"),
        ('{"frames": {}}', "line 2: frames: expected a list"),
        ('{"frames": [1]}', "line 2: frames: expected objects"),
        ('{"frames": [{}]}', "line 2: identity: expected a string"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        list(read([FRAME, line]))
