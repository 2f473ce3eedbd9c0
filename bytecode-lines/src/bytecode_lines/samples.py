"""The samples that `resolve` reads: JSON lines, one object for each frame or for each stack.

A frame:

    {"identity": "12:1:0:3:9ae16a3b2f90404f", "offset": 36, "file": "/srv/app.py"}

    identity   the code object: the text form of `bytecode_lines.identity.Identity`
    offset     of the last instruction: bytes from the first byte of the bytecode (`co_code`, from
               3.11 on `co_code_adaptive`). It is negative for a frame that has not started. If
               CPython counts in code units, as in `f_lasti` from 3.10 on, it is twice that.
    file       optional: `co_filename`. It decides if several files have the identity.
    python     optional: the version, such as "3.11". It decides likewise.
    function   optional: `co_qualname`, before 3.11 `co_name`. It decides likewise.
    table      optional: the line table in hexadecimal digits. If no index has the code, the line is
               found with it, `python` and `identity`, and the result has `file` and `function`.

A stack has the list `frames`, the innermost first, in place of `identity` and `offset`. Frames and
stacks may have further keys, such as a count, a process id or a name, which are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

from bytecode_lines.errors import BytecodeLinesError

__all__ = ["SampleError", "parse", "read"]


class SampleError(BytecodeLinesError):
    """A line is not a sample."""


def read(lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    """Yield the samples, one for each line that is not empty; SampleError names a bad line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield parse(line, number)


def parse(line: str | bytes, number: int) -> dict[str, Any]:
    """Return the sample that a line is; SampleError names the line by its number."""
    try:
        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        text = text.strip()
        # The same as json.loads(), in half of the time.
        sample, end = _decode(text)
        if end != len(text):
            raise ValueError(f"Extra data: char {end}")
    except (ValueError, RecursionError) as error:
        raise SampleError(f"line {number}: {error}", _ADVICE) from None
    is_plain = type(sample) is dict and len(sample) == len(("identity", "offset"))
    if is_plain and type(sample.get("identity")) is str and type(sample.get("offset")) is int:
        return cast("dict[str, Any]", sample)  # for speed
    problem = _problem(sample)
    if problem:
        raise SampleError(f"line {number}: {problem}", _ADVICE)
    return cast("dict[str, Any]", sample)


_decode = json.JSONDecoder().raw_decode
_ADVICE = 'Each line is like {"identity": "12:1:0:3:9ae16a3b2f90404f", "offset": 36}.'


def _problem(sample: object) -> str:
    if not isinstance(sample, dict):
        return "expected an object"
    if "frames" not in sample:
        return _frame_problem(sample)
    frames = sample["frames"]
    if not isinstance(frames, list):
        return "frames: expected a list"
    return next((problem for frame in frames if (problem := _frame_problem(frame))), "")


def _frame_problem(frame: object) -> str:
    if not isinstance(frame, dict):
        return "frames: expected objects"
    if not isinstance(frame.get("identity"), str):
        return "identity: expected a string"
    if type(frame.get("offset")) is not int:
        return "offset: expected an integer"
    if len(frame) == len(("identity", "offset")):
        return ""
    for key in ("file", "python", "function", "table"):
        if not isinstance(frame.get(key, ""), str):
            return f"{key}: expected a string"
    return ""
