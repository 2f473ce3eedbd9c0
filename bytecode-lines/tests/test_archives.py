"""Code in archives, and in files and folders that are not what their names say."""

from __future__ import annotations

import marshal
import os
import py_compile
import struct
import sys
import zipfile
import zlib
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType

import pytest

from bytecode_lines import BytecodeLinesError, Index, build, walk
from bytecode_lines.pyc import source_name

SOURCE = "def one(value):\n    return value\n"
COOKIE = b"MEI\014\013\012\013\016"


def compiled(path: str, source: str = SOURCE) -> CodeType:
    code: CodeType = compile(source, path, "exec", dont_inherit=True)
    return code


def paths(index: Path, name: str = "one") -> list[str]:
    """Return the paths of the entries with the identity of a function of SOURCE."""
    identity = next(str(c.identity) for c in walk(compiled("x")) if c.qualified_name == name)
    opened = Index(index)
    found = [entry.file.path for entry in opened.entries(identity)]
    opened.close()
    return found


@pytest.mark.parametrize("named", [True, False])
def test_a_zip_file(tmp_path: Path, named: bool) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    app = tree / "app.pyz"
    (tmp_path / "b.py").write_text(SOURCE)
    py_compile.compile(str(tmp_path / "b.py"), str(tmp_path / "b.pyc"), dfile="b.py")
    with zipfile.ZipFile(app, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("package/a.py", SOURCE)
        archive.write(tmp_path / "b.pyc", "b.pyc")
        archive.writestr("data.txt", "nothing")
    summary = build([app if named else tree], tmp_path / "index")
    assert (summary.files, summary.codes, summary.problems) == (2, 4, [])
    assert paths(tmp_path / "index") == [f"{app}/package/a.py", "b.py"]


def test_a_pyc_of_a_zip_file_that_is_older_than_its_source(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SOURCE)
    py_compile.compile(str(tmp_path / "a.py"), str(tmp_path / "a.pyc"))
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.write(tmp_path / "a.pyc", f"__pycache__/a.{sys.implementation.cache_tag}.pyc")
        archive.writestr("a.py", f"\n\n{SOURCE}")
    summary = build([tmp_path / "app.zip"], tmp_path / "index")
    assert (summary.files, summary.changed) == (2, 1)
    assert paths(tmp_path / "index") == [f"{tmp_path}/app.zip/a.py"]


def pyinstaller_program(path: Path) -> None:
    """Write a program with an archive of PyInstaller 6, and bytes before and after it."""
    module = zlib.compress(marshal.dumps(compiled("package/module.py")))
    table = marshal.dumps([("package", (3, 0, 0)), ("package.module", (0, 12, len(module)))])
    header = struct.pack("!4s4sI", b"PYZ\0", MAGIC_NUMBER, 12 + len(module))
    script = zlib.compress(marshal.dumps(compiled("app.py", f"\n{SOURCE}")))
    members = [
        (b"s", b"app", script, True),
        (b"z", b"PYZ.pyz", header + module + table, False),
        (b"b", b"libpython.so", b"\x7fELF", False),
    ]
    archive, entries = b"", b""
    for kind, name, data, is_compressed in members:
        padded = name + bytes(16 - len(name))
        numbers = (18 + len(padded), len(archive), len(data), len(data), is_compressed, kind)
        entries += struct.pack("!IIIIBc", *numbers) + padded
        archive += data
    length = len(archive) + len(entries) + 88
    python = sys.version_info[0] * 100 + sys.version_info[1]
    cookie = struct.pack(
        "!8sIIII64s", COOKIE, length, len(archive), len(entries), python, b"libpython"
    )
    path.write_bytes(b"\x7fELF bootloader" + archive + entries + cookie + b"section headers")
    path.chmod(0o755)


@pytest.mark.parametrize("named", [True, False])
def test_a_program_of_pyinstaller(tmp_path: Path, named: bool) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    pyinstaller_program(tree / "app")
    summary = build([tree / "app" if named else tree], tmp_path / "index")
    assert (summary.files, summary.codes, summary.problems) == (2, 4, [])
    assert paths(tmp_path / "index") == ["package/module.py"]


@pytest.mark.parametrize("kind", ["zip", "cut", "table"])
def test_a_damaged_archive_is_named_and_the_rest_indexed(tmp_path: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good.py").write_text(SOURCE)
    if kind == "zip":
        path = tree / "bad.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.py", SOURCE * 100)
        content = path.read_bytes()
        path.write_bytes(content[:40] + b"\xff" * 10 + content[50:])
    else:
        path = tree / "bad"
        pyinstaller_program(path)
        content = path.read_bytes()
        if kind == "cut":
            path.write_bytes(content[: content.index(COOKIE) + 20])
        else:  # an entry of the table of contents that has no length
            length = struct.pack("!I", 18 + 16)
            path.write_bytes(content.replace(length, bytes(4), 1))
    summary = build([tree], tmp_path / "index")
    (problem,) = summary.problems
    assert problem.startswith(f"{path}: ")
    assert paths(tmp_path / "index") == [str(tree / "good.py")]


def test_a_fifo_and_a_link_to_nothing_are_no_files(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good.py").write_text(SOURCE)
    os.mkfifo(tree / "a.py")
    os.mkfifo(tree / "b.pyc")
    os.mkfifo(tree / "c.zip")
    (tree / "d.py").symlink_to("nowhere.py")
    summary = build([tree], tmp_path / "index")
    assert sorted(summary.problems) == [
        f"{tree}/{name}: not a regular file" for name in ("a.py", "b.pyc", "c.zip", "d.py")
    ]
    assert paths(tmp_path / "index") == [str(tree / "good.py")]


def test_a_file_that_is_no_zip_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(SOURCE)
    (tmp_path / "broken.zip").write_text("no zip file")
    summary = build([tmp_path], tmp_path / "index")
    assert summary.problems == [f"{tmp_path}/broken.zip: not a zip file"]
    assert summary.files == 1


@pytest.mark.parametrize("in_cache", [True, False])
def test_a_pyc_file_that_is_named(tmp_path: Path, in_cache: bool) -> None:
    source = tmp_path / "a.py"
    source.write_text(SOURCE)
    pyc = None if in_cache else str(tmp_path / "a.pyc")
    path = Path(py_compile.compile(str(source), pyc, doraise=True) or "")
    summary = build([path], tmp_path / "index")
    assert (summary.files, summary.problems) == (1, [])
    assert paths(tmp_path / "index") == [str(source)]


def test_a_source_that_is_named(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text(SOURCE)
    (tmp_path / "b.py").write_text(SOURCE)
    assert build([str(source)], str(tmp_path / "index")).problems == []
    assert paths(tmp_path / "index") == [str(source)]
    with pytest.raises(BytecodeLinesError, match=r"a\.py: it has no code of this version"):
        build([source], tmp_path / "index", "2.7")


def test_a_cache_that_is_named(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text(SOURCE)
    py_compile.compile(str(source), doraise=True)
    build([tmp_path / "__pycache__"], tmp_path / "index")
    assert paths(tmp_path / "index") == [str(source)]


def test_files_that_are_named_but_have_no_code(tmp_path: Path) -> None:
    good, fifo = tmp_path / "good.py", tmp_path / "fifo"
    good.write_text(SOURCE)
    os.mkfifo(fifo)
    summary = build([fifo, Path(sys.executable), good], tmp_path / "index")
    assert summary.problems == [
        f"{fifo}: not a regular file",
        f"{sys.executable}: neither .py, .pyc or zip, nor made by PyInstaller",
    ]
    assert paths(tmp_path / "index") == [str(good)]


def test_a_zip_file_of_another_name_is_read_if_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "app"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.py", SOURCE)
    build([path], tmp_path / "index")
    assert paths(tmp_path / "index") == [f"{path}/a.py"]


def test_links_that_lead_back_up_are_not_followed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good.py").write_text(SOURCE)
    (tree / "loop").symlink_to(tree)
    summary = build([tree], tmp_path / "index")
    assert (summary.files, summary.problems) == (1, [])


def test_a_name_with_a_dot_is_not_that_before_the_dot(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.b.py").write_text(SOURCE)
    (tree / "a.py").write_text("other = 1\n")
    py_compile.compile(str(tree / "a.b.py"), doraise=True)
    summary = build([tree], tmp_path / "index")
    assert (summary.files, summary.changed) == (2, 0)
    assert paths(tmp_path / "index") == [str(tree / "a.b.py")]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.cpython-311.pyc", "a.py"),
        ("a.b.cpython-311.pyc", "a.b.py"),
        ("a.cpython-311.opt-1.pyc", "a.py"),
        ("a.b.cpython-38.opt-2.pyc", "a.b.py"),
        ("a.pyc", "a.py"),
    ],
)
def test_names_of_sources(name: str, source: str) -> None:
    assert source_name(name) == source
