"""The stacks of a recording with their lines, by pylines, and the hottest of these lines.

pylines is run by the very Python that the guest had, so that it compiles what that compiled.
"""

import importlib.util
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.profile.recording import Recording, Script

__all__ = ["Line", "Stack", "hottest", "stacks"]


@dataclass(frozen=True, order=True)
class Line:
    """A line of source, in a function."""

    file: str
    """Empty for code that was in no index."""
    number: int
    """0 where the instruction belongs to none."""
    function: str

    def __str__(self) -> str:
        """Return `file:line function`."""
        return self.shown(self.file)

    def shown(self, file: str) -> str:
        """Return the same with another name of the file."""
        if not self.file:
            # Such as what exec() made, and what Python runs before it can read files.
            return "(code of no file)"
        return f"{file}:{self.number or '?'} {self.function}"


@dataclass(frozen=True)
class Stack:
    """A stack, the innermost line first, and how many samples have it."""

    lines: tuple[Line, ...]
    count: int
    thread: int


@dataclass(frozen=True)
class Heat:
    """How many samples have a line innermost, and how many have it at all."""

    line: Line
    own: int
    total: int


def hottest(stacks: Iterable[Stack]) -> list[Heat]:
    """Return all lines, those first in which most samples were taken."""
    own: Counter[Line] = Counter()
    total: Counter[Line] = Counter()
    for stack in stacks:
        own[stack.lines[0]] += stack.count
        # A recursion has a line several times in one sample.
        for line in set(stack.lines):
            total[line] += stack.count
    heats = [Heat(line, own[line], count) for line, count in total.items()]
    return sorted(heats, key=lambda heat: (-heat.own, -heat.total, heat.line))


def stacks(recording: Recording, script: Script, cache: Cache) -> list[Stack]:
    """Return the stacks of a recording with their lines; BpfmatrixError if pylines fails."""
    library = _library_index(recording, cache)
    with cache.staging() as folder:
        tree = folder / "script"
        for place, path in script.files.items():
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / place)
        _pylines(recording.interpreter, "index", str(tree), "-o", str(folder / "index"))
        resolved = _pylines(
            *(recording.interpreter, "resolve", "--json", str(recording.samples)),
            *("-i", str(folder / "index"), "-i", str(library)),
        )
    prefix = f"{tree}{os.sep}"
    return [_stack(json.loads(line), prefix, script) for line in resolved.splitlines()]


def _stack(sample: dict[str, Any], prefix: str, script: Script) -> Stack:
    def path(file: str) -> str:
        return str(script.path.parent / file.removeprefix(prefix)) if prefix in file else file

    lines = tuple(
        Line(path(frame["file"]), frame["line"] or 0, frame["function"])
        for frame in sample["frames"]
    )
    return Stack(lines, sample["count"], sample["tid"])


def _library_index(recording: Recording, cache: Cache) -> Path:
    """Return an index of the standard library, made once for each state of its files."""
    files = {
        place: path
        for place, path in recording.python.items()
        if place.endswith((".py", ".pyc")) and place.startswith("lib/")
    }
    stamps = [(place, str(path), path.stat().st_mtime_ns) for place, path in sorted(files.items())]
    source = [(p.name, p.stat().st_mtime_ns) for p in sorted(_pylines_folder().glob("*.py"))]
    id = key_of([stamps, source])[:32]
    target = cache.root / "pylines" / f"{id}.index"
    if target.exists():
        os.utime(target)  # still in use: see Cache.prune_derived
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with cache.staging() as folder:
        for place, path in files.items():
            (folder / "tree" / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / place).symlink_to(path)
        made = folder / "index"
        _pylines(recording.interpreter, "index", str(folder / "tree"), "-o", str(made))
        made.replace(target)
    return target


def _pylines_folder() -> Path:
    found = importlib.util.find_spec("pylines")
    if found is None or found.origin is None:
        raise BpfmatrixError("this installation of bpfmatrix has no pylines", "Install it again.")
    return Path(found.origin).parent


def _pylines(python: Path, *words: str) -> str:
    # This interpreter may have no packages: pylines needs only the standard library.
    done = subprocess.run(
        [python, "-X", "utf8", "-m", "pylines", *words],
        env={
            **os.environ,
            "PYTHONPATH": str(_pylines_folder().parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        said = next((line for line in lines if line.startswith("error: ")), lines[-1])
        raise BpfmatrixError(f"pylines {words[0]} failed: {said.removeprefix('error: ')}")
    return done.stdout
