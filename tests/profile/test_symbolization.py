"""Stacks of bytecode offsets, turned into lines of source by bytecode-lines."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.integrity import damage
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.script import Script
from bpfmatrix.profile.stacks import SourceLine
from bpfmatrix.profile.symbolization import symbolize
from bytecode_lines.code import walk
from tests.damage import flip_bit_quietly


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

    def frame(code: Any) -> dict[str, object]:
        return {"identity": str(code.identity), "offset": 0}

    unknown = {"identity": "9999:0:0:0:0000000000000000", "offset": 0}
    recording = recording_of(
        tmp_path,
        {
            "frames": [frame(of_library["dumps"]), frame(of_script["f"]), unknown],
            "count": 3,
            "tid": 5,
        },
    )
    for number in range(3):  # the second time, with the index of the library from the cache
        if number == 2:
            [index] = (cache.root / "bytecode-lines").glob("*.index")
            flip_bit_quietly(index)
        [stack] = symbolize(recording, Script.find(tmp_path / "main.py"), cache)
        assert (stack.count, stack.thread) == (3, 5)
        dumps, own, missing = stack.lines
        assert (Path(dumps.file).name, dumps.function) == ("__init__.py", "dumps")
        assert own == SourceLine(str(tmp_path / "main.py"), 1, "f")
        assert missing == SourceLine("", 0, "")
    [index] = (cache.root / "bytecode-lines").glob("*.index")
    assert damage(index, reread=True) == ""


def test_an_error_of_bytecode_lines_is_quoted(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    recording = recording_of(tmp_path, "no sample")
    with pytest.raises(BpfmatrixError, match=r"bytecode-lines resolve failed: .* line 1"):
        symbolize(recording, Script.find(tmp_path / "main.py"), cache)
