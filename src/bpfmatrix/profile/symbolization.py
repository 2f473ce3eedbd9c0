"""Symbolization: bytecode-lines turns a recording's offsets of instructions into lines of source.

It runs under the same Python that ran in the guest, so that it compiles the sources to the
same bytecode.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import derived
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.payload import shipped
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.script import Script
from bpfmatrix.profile.stacks import SourceLine, Stack

__all__ = ["symbolize"]


def symbolize(recording: Recording, script: Script, cache: Cache) -> list[Stack]:
    """Return the stacks of a recording, with their lines; BpfmatrixError if that fails."""
    library = _library_index(recording, cache)
    with cache.staging() as folder:
        tree = folder / "script"
        for name, path in script.files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / name)
        _bytecode_lines(recording.interpreter, "index", str(tree), "-o", str(folder / "index"))
        resolved = _bytecode_lines(
            *(recording.interpreter, "resolve", "--json", str(recording.samples)),
            *("-i", str(folder / "index"), "-i", str(library)),
        )
    prefix = f"{tree}{os.sep}"
    return [_stack(json.loads(line), prefix, script) for line in resolved.splitlines()]


def _stack(sample: dict[str, Any], prefix: str, script: Script) -> Stack:
    def path(file: str) -> str:
        return str(script.path.parent / file.removeprefix(prefix)) if prefix in file else file

    lines = tuple(
        SourceLine(path(frame["file"]), frame["line"] or 0, frame["function"])
        for frame in sample["frames"]
    )
    truncated = sample.get("truncated") or ""
    return Stack(lines, sample["count"], sample["tid"], sample.get("process", ""), truncated)


def _library_index(recording: Recording, cache: Cache) -> Path:
    """Return the index of the standard library, made again only if its files have changed."""
    files = {
        name: path
        for name, path in recording.python.items()
        if name.endswith((".py", ".pyc")) and name.startswith("lib/")
    }
    stamps = [(name, str(path), path.stat().st_mtime_ns) for name, path in sorted(files.items())]
    modules = sorted(shipped.bytecode_lines().glob("*/*.py"))
    source = [(module.name, module.stat().st_mtime_ns) for module in modules]
    id = key_of([stamps, source])[:32]
    target = cache.root / "bytecode-lines" / f"{id}.index"

    def make(made: Path) -> None:
        with cache.staging() as folder:
            tree = folder / "tree"
            for name, path in files.items():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).symlink_to(path)
            _bytecode_lines(recording.interpreter, "index", str(tree), "-o", str(made))

    return derived.obtain(cache, target, "the index of Python's library", make)


def _bytecode_lines(python: Path, *words: str) -> str:
    # This interpreter may have no packages installed: bytecode-lines needs none.
    done = subprocess.run(
        [python, "-X", "utf8", "-m", "bytecode_lines", *words],
        env={
            **os.environ,
            "PYTHONPATH": str(shipped.bytecode_lines()),
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
        raise BpfmatrixError(f"bytecode-lines {words[0]} failed: {said.removeprefix('error: ')}")
    return done.stdout
