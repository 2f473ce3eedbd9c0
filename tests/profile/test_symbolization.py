"""Stacks of bytecode offsets, turned into lines of source by bytecode-lines."""

import importlib.abc
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
from bpfmatrix.profile.script import Script, ScriptRequest
from bpfmatrix.profile.stacks import UNKNOWN_THREAD, SourceLine, Stack
from bpfmatrix.profile.symbolization import symbolize
from bytecode_lines.code import walk
from tests.damage import flip_bit_quietly
from tests.profile.recorded import lost, stack, write_samples

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

UNKNOWN = "9999:0:0:0:0000000000000000"


def script_of(path: Path) -> Script:
    return Script.of(ScriptRequest(path), {f"script/{path.name}": path})


def recording_of(tmp_path: Path, *stacks: dict[str, Any], **summary: Any) -> Recording:
    """Return a recording with these stacks, of this Python and two modules of its library."""
    path = tmp_path / "samples.jsonl"
    write_samples(path, *stacks)
    library = Path(json.__file__)
    tree = {
        "bin/python3": Path(sys.executable),
        "lib/python3/json/__init__.py": library,
        "lib/python3/os.py": Path(os.__file__),
    }
    return Recording(path, tree, {"python": PYTHON, **summary})


def test_samples_become_lines_of_the_script_and_the_library(tmp_path: Path, cache: Cache) -> None:
    text = "def f():\n    return 1\n\n\nf()\n"
    (tmp_path / "main.py").write_text(text)
    of_script = {code.qualified_name: code for code in walk(compile(text, "main.py", "exec"))}
    library = Path(json.__file__).read_text()
    of_library = {c.qualified_name: c for c in walk(compile(library, "json", "exec"))}

    def frame(code: Any) -> tuple[dict[str, str], int]:
        return {"identity": str(code.identity)}, 0

    unknown = ({"identity": UNKNOWN}, 0)
    frames = [frame(of_library["dumps"]), frame(of_script["f"]), unknown]
    recording = recording_of(tmp_path, stack(frames, 3, tid=5))
    for number in range(3):  # the second time, with the index of the library from the cache
        if number == 2:
            [index] = (cache.root / "bytecode-lines").glob("*.index")
            flip_bit_quietly(index)
        [found] = symbolize(recording, script_of(tmp_path / "main.py"), cache).stacks
        assert (found.count, found.thread) == (3, 5)
        dumps, own, missing = found.lines
        assert (dumps.file, dumps.function) == (json.__file__, "dumps")
        assert own == SourceLine(str(tmp_path / "main.py"), 1, "f")
        assert missing == SourceLine("", 0, "")
    [index] = (cache.root / "bytecode-lines").glob("*.index")
    assert damage(index, reread=True) == ""


def test_stacks_of_several_processes_name_theirs(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    frames = [({"identity": UNKNOWN, "file": "/x.py", "function": "f"}, 0)]
    recording = recording_of(
        tmp_path,
        stack(frames, process="main.py"),
        stack(frames, process="fork of main.py"),
    )
    stacks = symbolize(recording, script_of(tmp_path / "main.py"), cache).stacks
    assert [stack.process for stack in stacks] == ["main.py", "fork of main.py"]


def test_a_thread_has_a_name_if_it_is_not_that_of_its_process(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    frames = [({"identity": UNKNOWN}, 0)]
    recording = recording_of(
        tmp_path,
        stack(frames, pid=5, tid=5, comm="python3"),
        stack(frames, pid=5, tid=6, comm="python3"),  # before it has its name
        stack(frames, pid=5, tid=6, comm="worker-1"),
        stack(frames, pid=5, tid=7, comm="python3"),
        stack(frames, pid=8, tid=9, comm="python3"),
    )
    stacks = symbolize(recording, script_of(tmp_path / "main.py"), cache).stacks
    assert [stack.thread_name for stack in stacks] == ["", "worker-1", "worker-1", "", ""]


def test_what_the_tracer_can_not_have_printed_is_told(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    recording = recording_of(tmp_path)
    recording.samples.write_text('{"part": {"number": 1, "frames": [[9, 0]]}}\n')
    symbolized = symbolize(recording, script_of(tmp_path / "main.py"), cache)
    assert symbolized.trouble == (
        "1 line of the tracer could not be read, the first: line 1: KeyError(9)"
    )


def test_an_error_of_bytecode_lines_is_quoted(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    (tmp_path / "os.py").write_text("if\n")
    samples = recording_of(tmp_path, stack([({"identity": "1"}, 0)])).samples
    recording = Recording(samples, {"lib/python3/os.py": tmp_path / "os.py"})
    with pytest.raises(BpfmatrixError, match=r"bytecode-lines index failed: no code was found"):
        symbolize(recording, script_of(tmp_path / "main.py"), cache)


def of_process(text: str, file: str, function: str) -> dict[str, str]:
    """Return what a process tells of a function of a source."""
    compiled = walk(compile(text, file, "exec", optimize=2))
    [code] = [code for code in compiled if code.qualified_name == function]
    identity, table = str(code.identity), code.table.hex()
    return {"identity": identity, "file": file, "function": function, "table": table}


def test_code_that_no_index_has_has_the_lines_that_the_process_tells(
    tmp_path: Path, cache: Cache
) -> None:
    main = tmp_path / "main.py"
    main.write_text("def f():\n    'documented'\n    assert 1\n    return 1\n")
    inner = "\n\ndef g(x):\n    return x\n"
    optimized = of_process(main.read_text(), "/payload/script/main.py", "f")
    executed = of_process(inner, "<string>", "g")
    zipped = of_process(inner, "/payload/script/lib.zip/inner.py", "g")
    library = of_process(inner, "/payload/python/lib/python3/os.py", "g")
    frozen = of_process(inner, "<frozen importlib.abc>", "g")
    package = of_process(inner, "<frozen json>", "g")
    nowhere = of_process(inner, "<frozen nowhere>", "g")
    damaged = {**executed, "table": "zz"}
    codes = (optimized, executed, zipped, library, frozen, package, nowhere, damaged)
    recording = recording_of(tmp_path, stack([(code, 4) for code in codes]))
    [found] = symbolize(recording, script_of(main), cache).stacks
    assert found.lines == (
        SourceLine(str(main), 4, "f"),
        SourceLine("<string>", 4, "g"),
        SourceLine(str(tmp_path / "lib.zip/inner.py"), 4, "g"),
        SourceLine(os.__file__, 4, "g"),
        SourceLine(importlib.abc.__file__, 4, "g"),
        SourceLine(json.__file__, 4, "g"),
        SourceLine("<frozen nowhere>", 4, "g"),
        SourceLine("<string>", 0, "g"),
    )


def test_code_of_exec_is_not_taken_for_equal_code_of_a_file(tmp_path: Path, cache: Cache) -> None:
    main = tmp_path / "main.py"
    main.write_text("x = 1\n")
    executed = of_process(main.read_text(), "<string>", "<module>")
    own = of_process(main.read_text(), "/payload/script/main.py", "<module>")
    recording = recording_of(tmp_path, stack([(executed, 2), (own, 2)]))
    [found] = symbolize(recording, script_of(main), cache).stacks
    assert [line.file for line in found.lines] == ["<string>", str(main)]


def test_a_script_that_does_not_compile_here_has_its_lines(tmp_path: Path, cache: Cache) -> None:
    main = tmp_path / "main.py"
    main.write_text("if\n")
    told = of_process("def f():\n    return 1\n", "/payload/script/main.py", "f")
    recording = recording_of(tmp_path, stack([(told, 2)]))
    [found] = symbolize(recording, script_of(main), cache).stacks
    assert found.lines == (SourceLine(str(main), 2, "f"),)


def test_lost_samples_have_their_innermost_lines(tmp_path: Path, cache: Cache) -> None:
    main = tmp_path / "main.py"
    main.write_text("def f():\n    return 1\n")
    own = of_process(main.read_text(), "/payload/script/main.py", "f")
    executed = of_process("\n\ndef g(x):\n    return x\n", "<string>", "g")
    lineless = {**executed, "table": ""}
    recording = recording_of(tmp_path, lost(own, 2, 3), lost(executed, 4, 5), lost(lineless, 4, 7))
    symbolized = symbolize(recording, script_of(main), cache)
    assert symbolized.lost == [
        Stack((SourceLine(str(main), 2, "f"),), 3, UNKNOWN_THREAD, truncated="lost"),
        Stack((SourceLine("<string>", 4, "g"),), 5, UNKNOWN_THREAD, truncated="lost"),
    ]
