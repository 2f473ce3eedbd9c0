from __future__ import annotations

import os
import py_compile
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bytecode_lines import BytecodeLinesError, Identity, Index, build, pyc, walk
from bytecode_lines.errors import PycError
from compiled import FIXTURES, functions

OURS = f"{sys.version_info[0]}.{sys.version_info[1]}"
ADVICE = "python -m compileall"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "package").mkdir(parents=True)
    (folder / "package/module.py").write_text("def one():\n    return 1\n")
    (folder / "other.py").write_text("\n\ndef two(a, *, b):\n    return [x for x in a]\n")
    return folder


@pytest.fixture
def index(tree: Path, tmp_path: Path) -> Iterator[Index]:
    build([tree], tmp_path / "index")
    opened = Index(tmp_path / "index")
    yield opened
    opened.close()


def identity(path: Path, name: str) -> str:
    code = compile(path.read_text(), str(path), "exec", dont_inherit=True)
    return str(next(inner.identity for inner in walk(code) if inner.qualified_name == name))


def test_a_function_is_found_by_its_identity(index: Index, tree: Path) -> None:
    (entry,) = index.entries(identity(tree / "other.py", "two"))
    assert (entry.file.path, entry.name) == (str(tree / "other.py"), "two")
    assert entry.file.version == sys.version_info[:2]
    # The first instructions have the line of the function itself from Python 3.11 on. From 3.12 on,
    # the comprehension is part of the function, and the clean-up after it has no line.
    assert {line for _, line in entry.lines.starts()} - {3, None} == {4}
    assert index.entries(str(Identity(1, 2, 3, 4, 5))) == []


def test_a_module_and_its_first_function_stay_apart(index: Index, tree: Path) -> None:
    module = tree / "package/module.py"
    names = [index.entries(identity(module, name))[0].name for name in ("<module>", "one")]
    assert names == ["<module>", "one"]


def test_pyc_files_that_are_up_to_date_add_nothing(tree: Path, tmp_path: Path) -> None:
    plain = build([tree], tmp_path / "a")
    for path in tree.rglob("*.py"):
        py_compile.compile(str(path), doraise=True)
    compiled = build([tree], tmp_path / "b")
    assert (compiled.codes, compiled.files) == (plain.codes, plain.files)
    assert not compiled.changed


def test_a_pyc_that_is_older_than_its_source(tree: Path, tmp_path: Path) -> None:
    source = tree / "other.py"
    before = identity(source, "two")
    py_compile.compile(str(source), doraise=True)
    source.write_text("# A line more.\n" + source.read_text())
    summary = build([tree], tmp_path / "index")
    assert summary.changed == 1
    index = Index(tmp_path / "index")
    # A process that was started before runs the old code, and one that is started now the new code.
    (old,), (new,) = index.entries(before), index.entries(identity(source, "two"))
    assert (old.file.changed, new.file.changed) == (True, False)
    assert (old.first_line, new.first_line) == (3, 4)


@pytest.mark.parametrize("mode", ["CHECKED_HASH", "UNCHECKED_HASH"])
def test_a_pyc_with_the_hash_of_its_source(tree: Path, mode: str) -> None:
    source = tree / "other.py"
    mode_value = py_compile.PycInvalidationMode[mode]
    path = tree / "compiled.pyc"
    py_compile.compile(str(source), str(path), doraise=True, invalidation_mode=mode_value)
    os.utime(source, (1, 1))
    assert not pyc.load(path).older_than(source)
    source.write_text("changed = 1\n")
    assert pyc.load(path).older_than(source)


def test_without_sources_paths_are_those_that_were_passed_to_the_compiler(
    tree: Path, tmp_path: Path
) -> None:
    source = tree / "other.py"
    py_compile.compile(str(source), str(tree / "other.pyc"), dfile="/srv/app/other.py")
    two = identity(source, "two")
    source.unlink()
    build([tree], tmp_path / "index")
    (entry,) = Index(tmp_path / "index").entries(two)
    assert entry.file.path == entry.file.compiled_as == "/srv/app/other.py"


def test_code_without_columns_still_has_lines(tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "no_debug_ranges", "-m", "compileall", "-q", "-b", str(tree)]
    subprocess.run(command, check=True)
    for source in tree.rglob("*.py"):
        source.unlink()
    build([tree], tmp_path / "index")
    database = sqlite3.connect(tmp_path / "index")
    (two,) = database.execute("SELECT identity FROM codes WHERE name = 'two'").fetchone()
    (entry,) = Index(tmp_path / "index").entries(two)
    assert [(range.line, range.column) for range in entry.lines.ranges][-1] == (4, None)


def test_one_index_has_code_of_all_versions(compiled_fixtures: Path, tmp_path: Path) -> None:
    build([compiled_fixtures], tmp_path / "index")
    database = sqlite3.connect(tmp_path / "index")
    rows = database.execute("SELECT DISTINCT python FROM files").fetchall()
    assert {python for (python,) in rows} >= {"2.7", "3.6", "3.9", "3.10", "3.11", "3.14"}
    summary = build([compiled_fixtures], tmp_path / "index", "3.8")
    database = sqlite3.connect(tmp_path / "index")
    assert database.execute("SELECT DISTINCT python FROM files").fetchall() == [("3.8",)]
    assert summary.files == 1


def test_collisions_are_counted(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree / "package", tree / "copy")
    summary = build([tree], tmp_path / "index")
    assert (summary.collisions, summary.colliding_codes) == (2, 4)
    entries = Index(tmp_path / "index").entries(identity(tree / "copy/module.py", "one"))
    assert [Path(entry.file.path).parent.name for entry in entries] == ["copy", "package"]


def damaged(tree: Path, kind: str) -> tuple[Path, str]:
    path = tree / "bad.pyc"
    content = (FIXTURES / "traps.3.12.pyc").read_bytes()
    table = functions((3, 12))["<module>"].table
    changed, message = {
        "magic": (
            struct.pack("<H", 4000) + content[2:],
            "unknown version of Python (magic number 4000)",
        ),
        "cut in the header": (content[:10], "ends within its header"),
        "cut": (content[:-20], "damaged: it ends"),
        "empty": (b"", "not a .pyc file"),
        "text": (b"print('hello')\n", "not a .pyc file"),
        "no code": (content[:16] + b"N", "damaged: it holds no code object"),
        "table": (
            content.replace(table, b"\xf7" + table[1:]),
            "<module>: the line table goes beyond the end of the code",
        ),
    }[kind]
    path.write_bytes(changed)
    return path, message


BAD = ["magic", "cut in the header", "cut", "empty", "text", "no code", "table"]


@pytest.mark.parametrize("kind", BAD)
def test_files_that_can_not_be_read_are_named_and_the_others_indexed(
    tree: Path, tmp_path: Path, kind: str
) -> None:
    path, message = damaged(tree, kind)
    summary = build([tree], tmp_path / "index")
    (problem,) = summary.problems
    assert message in problem
    assert str(path) in problem or kind == "table"
    assert Index(tmp_path / "index").entries(identity(tree / "other.py", "two"))


@pytest.mark.parametrize("kind", BAD[:-1])
def test_a_bad_pyc_is_a_clear_error(tree: Path, kind: str) -> None:
    path, message = damaged(tree, kind)
    with pytest.raises(PycError) as caught:
        pyc.load(path)
    assert message in caught.value.what
    assert caught.value.advice


@pytest.mark.parametrize("text", ["def f(:\n", "\0", "# coding: nothing\n", "(" * 10_000])
def test_a_source_that_does_not_compile_is_left_out(tree: Path, tmp_path: Path, text: str) -> None:
    (tree / "bad.py").write_text(text)
    summary = build([tree], tmp_path / "index")
    (problem,) = summary.problems
    assert problem.startswith(f"{tree}/bad.py: does not compile: ")


def test_nothing_to_index_is_an_error_and_keeps_the_old_index(tree: Path, tmp_path: Path) -> None:
    output = tmp_path / "index"
    build([tree], output)
    before = output.read_bytes()
    other = "3.13" if OURS != "3.13" else "3.14"
    with pytest.raises(
        BytecodeLinesError, match=f"no code of Python {re.escape(other)} was found"
    ) as caught:
        build([tree], output, other)
    assert ADVICE.replace("python ", f"python{other} ") in caught.value.advice
    with pytest.raises(BytecodeLinesError, match="no such file or folder"):
        build([tree / "none"], output)
    assert output.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["index"]


@pytest.mark.parametrize("kind", ["source", "database", "folder", "link", "fifo"])
def test_only_an_index_is_replaced(tree: Path, tmp_path: Path, kind: str) -> None:
    source, output = tmp_path / "precious.py", tmp_path / "output"
    source.write_text("precious = 1\n")
    make: dict[str, Callable[[], object]] = {
        "source": lambda: shutil.copy(source, output),
        "database": lambda: sqlite3.connect(output).execute("CREATE TABLE precious (id)"),
        "folder": output.mkdir,
        "link": lambda: output.symlink_to(source),
        "fifo": lambda: os.mkfifo(output),
    }
    make[kind]()
    before = output.lstat()
    with pytest.raises(BytecodeLinesError, match=r"not replaced|a folder|not a regular file"):
        build([tree], output)
    assert output.lstat().st_ino == before.st_ino
    assert source.read_text() == "precious = 1\n"


def test_an_index_and_an_empty_file_are_replaced(tree: Path, tmp_path: Path) -> None:
    output = tmp_path / "made" / "index"
    build([tree], output)
    (tree / "more.py").write_text("more = 1\n")
    assert build([tree], output).files == 3
    output.write_text("")
    assert build([tree], output).files == 3
    Index(output).close()


def test_an_output_that_can_not_be_written_is_an_error(tree: Path, tmp_path: Path) -> None:
    for output in (Path("/proc/none.index"), tree / "other.py" / "index"):
        with pytest.raises(BytecodeLinesError, match="can't be written: ") as caught:
            build([tree], output)
        assert caught.value.what.startswith(f"{output}: ")


def test_other_files_are_not_an_index(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with pytest.raises(BytecodeLinesError, match="no such index"):
        Index(path)
    path.write_text("text")
    with pytest.raises(BytecodeLinesError, match="not an index of bytecode-lines"):
        Index(path)
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE files (id)")
    with pytest.raises(BytecodeLinesError, match="not an index of bytecode-lines"):
        Index(path)


def test_an_index_of_another_version_is_an_error(tree: Path, tmp_path: Path) -> None:
    build([tree], tmp_path / "index")
    sqlite3.connect(tmp_path / "index").execute("PRAGMA user_version = 99")
    with pytest.raises(BytecodeLinesError, match="another version of bytecode-lines"):
        Index(tmp_path / "index")


def test_a_damaged_index_is_an_error(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "index"
    build([tree], path)
    content = path.read_bytes()
    # The first page is kept, as it has the application id.
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(BytecodeLinesError, match="damaged: "):
        Index(path).entries(identity(tree / "other.py", "two"))
