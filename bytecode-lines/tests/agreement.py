"""Compares the lines that bytecode-lines finds in .pyc files with those that Python itself reports.

As a command, it compares those of the whole standard library of each Python that is named, or of
the sources in folders, and prints a row for each. PYTHONPATH has to lead to `src`:

    python tests/agreement.py [--folder DIR]... PYTHON...
"""

from __future__ import annotations

import argparse
import itertools
import marshal
import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bytecode_lines import Code, pyc, walk

if TYPE_CHECKING:
    from typing import TypeAlias

    Run: TypeAlias = tuple[int, tuple[int | None, ...]]
    """A count of bytes with the same position, and that position."""

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


class Compared(NamedTuple):
    """How much was compared."""

    codes: int = 0
    offsets: int = 0
    """Of instructions and caches: each code unit of two bytes; up to 3.5, each byte."""
    disagreements: tuple[str, ...] = ()


def check(python: Sequence[str], folder: Path, least: int, every: int = 1) -> None:
    """Compare each Nth source of a Python's library; AssertionError if anything differs."""
    run_oracle(python, library(python)[::every], folder)
    found = compare(folder)
    assert found.disagreements == ()
    assert found.codes >= least


def compare(output: Path) -> Compared:
    """Compare the files that `run_oracle` has written."""
    count = offsets = 0
    disagreements = []
    for path in sorted(output.glob("*.pyc")):
        compiled = pyc.load(path)
        descriptions = marshal.loads(path.with_suffix(".expected").read_bytes())
        codes = list(walk(compiled.code, compiled.version))
        assert len(codes) == len(descriptions)
        for code, expected in zip(codes, descriptions):
            offsets += code.code_length // (2 if code.version >= (3, 6) else 1)
            try:
                compare_code(code, as_text(expected))
            except AssertionError as error:
                disagreements.append(str(error))
        count += len(codes)
    return Compared(count, offsets, tuple(disagreements))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, action="append", help="in place of the library")
    parser.add_argument("pythons", metavar="PYTHON", nargs="+")
    arguments = parser.parse_args()
    for python in arguments.pythons:
        sources = [path for folder in arguments.folder or () for path in folder.rglob("*.py")]
        version = subprocess.run([python, "-V"], capture_output=True, check=True)
        with tempfile.TemporaryDirectory() as temporary:
            run_oracle([python], sources or library([python]), Path(temporary))
            found = compare(Path(temporary))
        name = (version.stdout or version.stderr).decode().strip()  # Python 2 writes to the latter
        print(
            f"{name}: {found.codes} code objects, {found.offsets} offsets, "
            f"{len(found.disagreements)} code objects differ",
            flush=True,
        )
        for disagreement in found.disagreements[:5]:
            print(f"    {disagreement[:500]}", flush=True)


if __name__ == "__main__":
    main()
