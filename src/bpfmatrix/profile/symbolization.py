"""Symbolization: bytecode-lines turns a recording's offsets of instructions into lines of source.

It runs under this Python, whatever ran in the guest. The indices have the files of the guest's
Python as they are compiled for it. Of code that is in none of these, such as a script of another
version, or code of `exec` or of a zip file, the process itself has told the line table and the
names.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import derived
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.text import counted
from bpfmatrix.payload import shipped
from bpfmatrix.payload.model import MOUNT_POINT
from bpfmatrix.profile import samples
from bpfmatrix.profile.recording import PYTHON_FOLDER, SCRIPTS_FOLDER, Recording
from bpfmatrix.profile.script import Script
from bpfmatrix.profile.stacks import UNKNOWN_THREAD, SourceLine, Stack

__all__ = ["Symbolized", "symbolize"]


@dataclass(frozen=True)
class Symbolized:
    """The lines of a recording."""

    stacks: list[Stack]
    lost: list[Stack]
    """Samples whose stacks were lost but for the innermost lines; their threads are not known."""
    trouble: str = ""
    """What of the samples could not be read; empty if all could."""


def symbolize(recording: Recording, script: Script, cache: Cache) -> Symbolized:
    """Return the stacks of a recording, with their lines; BpfmatrixError if that fails."""
    recorded = samples.read(recording.samples)
    library = _library_index(recording, cache)
    # A stack of thousands of frames has few distinct ones. Only these are looked up.
    python = recording.summary.get("python", "")
    frames = [_sample_of(frame, python) for frame in recorded.frames]
    with cache.staging() as folder:
        tree = folder / "script"
        for name, path in script.files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / name)
        indices = [library]
        # A script may not compile here. Then what the process tells has to do.
        with contextlib.suppress(BpfmatrixError):
            _bytecode_lines("index", str(tree), "-o", str(folder / "index"))
            indices.insert(0, folder / "index")
        distinct = folder / "frames.jsonl"
        distinct.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
        resolved = _bytecode_lines(
            *("resolve", "--json", str(distinct)),
            *(word for index in indices for word in ("-i", str(index))),
        )
    places = _Places(tree, recording, script)
    lines = [places.line(json.loads(line)) for line in resolved.splitlines()]
    names = {stack.process_name for stack in recorded.stacks}
    several = len(names | {lost.process_name for lost in recorded.lost}) > 1
    threads = _thread_names(recorded.stacks)
    stacks = [
        Stack(
            tuple([lines[frame] for frame in stack.frames]),
            stack.count,
            stack.thread,
            stack.process_name if several else "",
            stack.truncated,
            threads.get((stack.process, stack.thread), ""),
        )
        for stack in recorded.stacks
    ]
    # A place without a line is no place in the ranking of lines: such samples are of unknown code.
    of_lost = [
        Stack(
            (lines[lost.frame],),
            lost.count,
            UNKNOWN_THREAD,
            lost.process_name if several else "",
            "lost",
        )
        for lost in recorded.lost
        if lines[lost.frame].number
    ]
    trouble = ""
    if recorded.unread:
        unread = counted(recorded.unread, "line")
        trouble = f"{unread} of the tracer could not be read, the first: {recorded.first_unread}"
    return Symbolized(stacks, of_lost, trouble)


def _thread_names(stacks: Iterable[samples.SampledStack]) -> dict[tuple[int, int], str]:
    """Return the names of threads that differ from those of their processes, by process and thread.

    A thread begins with the name of its process, so its last name is the one that it was given.
    """
    names = {(stack.process, stack.thread): stack.thread_name for stack in stacks}
    given = {}
    for (process, thread), name in names.items():
        # The kernel's name of a process is that of its first thread.
        of_process = names.get((process, process))
        if name != of_process and not (of_process is None and name.startswith("python")):
            given[process, thread] = name
    return given


def _sample_of(frame: samples.Frame, python: str) -> dict[str, Any]:
    """Return a frame in the form that bytecode-lines reads."""
    code = frame.code
    sample = {
        "identity": code.identity,
        "offset": frame.offset,
        "file": code.file,
        "function": code.function,
        "table": code.table,
        "python": python,
    }
    return {key: value for key, value in sample.items() if value != ""}


class _Places:
    """Where the files that bytecode-lines or a process in the guest names are on the host."""

    def __init__(self, script_tree: Path, recording: Recording, script: Script) -> None:
        self._scripts = script.path.parent
        self._python = recording.python
        self._library = recording.library
        self._script_prefixes = (f"{script_tree}{os.sep}", f"{MOUNT_POINT}/{SCRIPTS_FOLDER}/")

    def line(self, frame: Mapping[str, Any]) -> SourceLine:
        """Return the line of a frame that bytecode-lines has resolved."""
        return SourceLine(self._path(frame["file"]), frame["line"] or 0, frame["function"])

    def _path(self, file: str) -> str:
        for prefix in self._script_prefixes:
            if file.startswith(prefix):
                return str(self._scripts / file.removeprefix(prefix))
        # In the index of the library, or in the guest.
        for folder in (f"/{_LIBRARY_TREE}/", f"{MOUNT_POINT}/{PYTHON_FOLDER}/"):
            if path := self._python.get(file.rpartition(folder)[2]):
                return str(path)
        if frozen := _FROZEN.fullmatch(file):
            module = self._library.joinpath(*frozen["name"].split("."))
            for source in (module.with_suffix(".py"), module / "__init__.py"):
                if source.is_file():
                    return str(source)
        return file


_FROZEN = re.compile(r"<frozen (?P<name>[\w.]+)>")


_LIBRARY_TREE = "python-library"


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
            tree = folder / _LIBRARY_TREE
            for name, path in files.items():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).symlink_to(path)
            _bytecode_lines("index", str(tree), "-o", str(made))

    return derived.obtain(cache, target, "the index of Python's library", make)


def _bytecode_lines(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", "bytecode_lines", *words],
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
