"""Compares the lines that pylines finds in .pyc files with those that Python itself reports.

As a command, it compares those of the whole standard library of a Python:

    python -m tests.pylines.agreement PYTHON
"""

import itertools
import marshal
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pylines import Code, pyc, walk

ORACLE = Path(__file__).with_name("oracle.py")


def library(python: Sequence[str]) -> list[Path]:
    """Return the sources of a Python's standard library, without packages that pip installed."""
    script = "import os; print(os.path.dirname(os.__file__))"
    done = subprocess.run([*python, "-c", script], stdout=subprocess.PIPE, check=True)
    return [
        Path(folder, name)
        for folder, _, names in os.walk(done.stdout.decode().strip())
        for name in sorted(names)
        if name.endswith(".py")
        if not {"site-packages", "dist-packages"} & set(folder.split("/"))
    ]


def run_oracle(python: Sequence[str], sources: Iterable[Path], output: Path) -> None:
    """Run oracle.py with a Python, for these sources."""
    lines = "".join(f"{source}\n" for source in sources)
    command = [*python, "-W", "ignore", str(ORACLE), str(output)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["PYTHONIOENCODING"] = "utf-8"
    subprocess.run(command, input=lines.encode(), check=True, env=env, stdout=subprocess.DEVNULL)


def compare(output: Path) -> int:
    """Compare the files that `run_oracle` has written; return the number of code objects."""
    count = 0
    for path in sorted(output.glob("*.pyc")):
        compiled = pyc.load(path)
        descriptions = marshal.loads(path.with_suffix(".expected").read_bytes())
        codes = list(walk(compiled.code, compiled.version))
        assert len(codes) == len(descriptions)
        for code, expected in zip(codes, descriptions, strict=True):
            compare_code(code, as_text(expected))
        count += len(codes)
    return count


def compare_code(code: Code, expected: dict[str, Any]) -> None:
    context = f"{code.filename}: {code.qualified_name}"
    assert code.name == expected["name"], context
    assert code.table == expected["table"], context
    fields = ("first_line", "arguments", "keyword_only", "flags", "code_length")
    assert {name: getattr(code, name) for name in fields} == {n: expected[n] for n in fields}, (
        context
    )
    if expected["qualified_name"] is not None:
        assert code.qualified_name == expected["qualified_name"], context

    lines = code.lines
    if expected["positions"] is not None:
        positions = [(count * 2, tuple(position)) for count, position in expected["positions"]]
        assert _runs(code) == positions, context
    elif expected["lines"]:
        runs: list[Run] = [
            (end - start, (line, line, None, None)) for start, end, line in expected["lines"]
        ]
        assert _runs(code) == _merged(runs), context
    else:
        starts, line = dict(expected["starts"]), code.first_line
        for offset in range(0, code.code_length, 2 if code.version >= (3, 6) else 1):
            line = starts.get(offset, line)
            assert lines.at(offset).line == line, f"{context} at {offset}"
    if code.version >= (3, 10):
        # Versions differ in which ranges without a line `dis` yields.
        assert _without_gaps(lines.starts()) == _without_gaps(expected["starts"]), context


Run = tuple[int, tuple[int | None, ...]]


def _runs(code: Code) -> list[Run]:
    """Return how many consecutive bytes have each position, from the first byte to the last."""
    ranges = code.lines.ranges
    runs: list[Run] = [(range.end - range.start, tuple(range[2:])) for range in ranges]
    rest = code.code_length - (ranges[-1].end if ranges else 0)
    return _merged([*runs, (rest, (None, None, None, None))] if rest else runs)


def _merged(runs: list[Run]) -> list[Run]:
    groups = itertools.groupby(runs, key=lambda run: run[1])
    return [(sum(length for length, _ in group), position) for position, group in groups]


def _without_gaps(starts: Iterable[tuple[int, int | None]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, line in starts:
        if line is not None and (not found or found[-1][1] != line):
            found.append((start, line))
    return found


def as_text(expected: dict[Any, Any]) -> dict[str, Any]:
    """Decode a description of Python 2, which marshals its strings as bytes."""
    decoded = {_text(key): value for key, value in expected.items()}
    return {key: value if key == "table" else _text(value) for key, value in decoded.items()}


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        run_oracle(sys.argv[1:], library(sys.argv[1:]), Path(temporary))
        print(compare(Path(temporary)), "code objects agree")
