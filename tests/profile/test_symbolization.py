"""Stacks of bytecode offsets, turned into lines of source by bytecode-lines."""

import json
import os
import sys
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.integrity import damage
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.script import Script, ScriptRequest
from bpfmatrix.profile.stacks import SourceLine
from bpfmatrix.profile.symbolization import symbolize
from bytecode_lines.code import walk
from tests.damage import flip_bit_quietly

UNKNOWN = "9999:0:0:0:0000000000000000"


def script_of(path: Path) -> Script:
    return Script.of(ScriptRequest(path), {f"script/{path.name}": path})


def recording_of(tmp_path: Path, *samples: object) -> Recording:
    """Return a recording with these samples, of this Python and two modules of its library."""
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    library = Path(json.__file__)
    tree = {
        "bin/python3": Path(sys.executable),
        "lib/python3/json/__init__.py": library,
        "lib/python3/os.py": Path(os.__file__),
    }
    return Recording(path, tree, {"python": "3.11"})


def test_samples_become_lines_of_the_script_and_the_library(tmp_path: Path, cache: Cache) -> None:
    text = "def f():\n    return 1\n\n\nf()\n"
    (tmp_path / "main.py").write_text(text)
    of_script = {code.qualified_name: code for code in walk(compile(text, "main.py", "exec"))}
    library = Path(json.__file__).read_text()
    of_library = {c.qualified_name: c for c in walk(compile(library, "json", "exec"))}

    identities = [str(of_library["dumps"].identity), str(of_script["f"].identity), UNKNOWN]
    recording = recording_of(
        tmp_path,
        *({"code": {"number": n, "identity": text}} for n, text in enumerate(identities)),
        {"part": {"number": 1, "frames": [[0, 0], [1, 0]]}},
        {"part": {"number": 2, "frames": [[2, 0]]}},
        {"stack": {"parts": [1, 2], "count": 3, "pid": 4, "tid": 5, "comm": "p", "process": "a"}},
    )
    for number in range(3):  # the second time, with the index of the library from the cache
        if number == 2:
            [index] = (cache.root / "bytecode-lines").glob("*.index")
            flip_bit_quietly(index)
        [stack] = symbolize(recording, script_of(tmp_path / "main.py"), cache).stacks
        assert (stack.count, stack.thread, stack.process) == (3, 5, "")
        dumps, own, missing = stack.lines
        assert (Path(dumps.file).name, dumps.function) == ("__init__.py", "dumps")
        assert own == SourceLine(str(tmp_path / "main.py"), 1, "f")
        assert missing == SourceLine("", 0, "")
    [index] = (cache.root / "bytecode-lines").glob("*.index")
    assert damage(index, reread=True) == ""


def test_stacks_of_several_processes_name_theirs(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    stack = {"parts": [1], "count": 1, "pid": 4, "tid": 5, "comm": "p"}
    recording = recording_of(
        tmp_path,
        {"code": {"number": 0, "identity": UNKNOWN, "file": "/x.py", "function": "f"}},
        {"part": {"number": 1, "frames": [[0, 0]]}},
        {"stack": {**stack, "process": "main.py"}},
        {"stack": {**stack, "process": "fork of main.py"}},
    )
    stacks = symbolize(recording, script_of(tmp_path / "main.py"), cache).stacks
    assert [stack.process for stack in stacks] == ["main.py", "fork of main.py"]


def test_what_the_tracer_can_not_have_printed_is_told(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    recording = recording_of(tmp_path, {"part": {"number": 1, "frames": [[9, 0]]}})
    with pytest.raises(BpfmatrixError, match="line 1 is not one of the tracer"):
        symbolize(recording, script_of(tmp_path / "main.py"), cache)
