import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.profile import flamegraph
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.script import Script
from bpfmatrix.profile.stacks import SourceLine, Stack, hottest
from bpfmatrix.profile.symbolization import symbolize
from tests.tool import REPOSITORY

LINES = [SourceLine(f"/x/{file}.py", number, "f") for file in "ab" for number in (0, 1, 2)]
STACKS = st.lists(
    st.builds(
        Stack,
        st.lists(st.sampled_from(LINES), min_size=1, max_size=6).map(tuple),
        st.integers(1, 50),
        st.integers(1, 3),
    ),
    max_size=8,
)


@given(STACKS)
def test_each_sample_is_in_one_innermost_line(found: list[Stack]) -> None:
    samples = sum(stack.count for stack in found)
    hot_lines = hottest(found)
    assert sum(hot.own for hot in hot_lines) == samples
    assert all(hot.own <= hot.total <= samples for hot in hot_lines)
    assert [hot.own for hot in hot_lines] == sorted((hot.own for hot in hot_lines), reverse=True)


def test_a_recursion_counts_once() -> None:
    line, outer = LINES[1], LINES[2]
    [inner, other] = hottest([Stack((line, line, line, outer), 4, 1), Stack((outer,), 1, 1)])
    assert (inner.line, inner.own, inner.total) == (line, 4, 4)
    assert (other.line, other.own, other.total) == (outer, 1, 5)


SVG = "{http://www.w3.org/2000/svg}"


@given(STACKS.filter(bool))
def test_a_flame_graph_is_as_wide_as_its_samples(
    tmp_path_factory: pytest.TempPathFactory, found: list[Stack]
) -> None:
    path = tmp_path_factory.getbasetemp() / "flame.svg"
    flamegraph.draw(found, "title", path)
    tree = ElementTree.parse(path)
    boxes = [box for box in tree.iter(f"{SVG}rect") if box.find(f"{SVG}title") is not None]
    by_row: dict[str, list[tuple[float, float]]] = {}
    for box in boxes:
        left, width = float(box.attrib["x"]), float(box.attrib["width"])
        by_row.setdefault(box.attrib["y"], []).append((left, left + width))
    assert len(by_row) == max(len(stack.lines) for stack in found)
    for row in by_row.values():
        row.sort()
        # No two of a row overlap.
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(row))
    bottom = by_row[max(by_row, key=float)]
    assert sum(right - left for left, right in bottom) == pytest.approx(1200)


def test_a_flame_graph_of_names_that_xml_reserves_and_of_a_deep_stack(tmp_path: Path) -> None:
    odd = SourceLine('/x/<&>".py', 1, "f.<locals>.<lambda>")
    deep = tuple(SourceLine("/x/a.py", number, "f") for number in range(1, 2000))
    flamegraph.draw([Stack((odd,), 1, 1), Stack(deep, 1, 1)], "a < b & c", tmp_path / "f.svg")
    text = "".join(ElementTree.parse(tmp_path / "f.svg").getroot().itertext())
    assert "a < b & c" in text
    assert '/x/<&>".py:1 f.<locals>.<lambda>: 1 of 2 samples, 50.0%' in text
    assert "/x/a.py:1999 f: 1 of 2 samples" in text


def test_a_script_brings_the_modules_beside_it_that_it_imports(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    for name, text in {
        "main.py": "import json, beside\nfrom package.inner import x\nimport nothing_of_that_name",
        "beside.py": "import further",
        "further.py": "",
        "unused.py": "",
        "package/__init__.py": "",
        "package/inner.py": "x = 1",
    }.items():
        (tmp_path / name).write_text(text)
    script = Script.find(tmp_path / "main.py")
    assert script.files == {
        name: tmp_path / name
        for name in (
            "main.py",
            "beside.py",
            "further.py",
            "package/__init__.py",
            "package/inner.py",
        )
    }


def test_a_script_that_does_not_compile_goes_alone(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def (:\n")
    assert set(Script.find(tmp_path / "main.py").files) == {"main.py"}
    with pytest.raises(UsageError, match=r"missing\.py: no such script"):
        Script.find(tmp_path / "missing.py")


def recording_of(tmp_path: Path, *samples: object) -> Recording:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    library = Path(json.__file__)
    tree = {
        "bin/python3": Path(sys.executable),
        "lib/python3/json/__init__.py": library,
        "lib/python3/os.py": Path(os.__file__),
    }
    return Recording(path, tree, {"python": "3.11"})


def test_samples_become_lines_of_script_and_library(tmp_path: Path, cache: Cache) -> None:
    from pylines.code import walk

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
    for _ in range(2):  # the second time, the library's index is there
        [stack] = symbolize(recording, Script.find(tmp_path / "main.py"), cache)
        assert (stack.count, stack.thread) == (3, 5)
        dumps, own, missing = stack.lines
        assert (Path(dumps.file).name, dumps.function) == ("__init__.py", "dumps")
        assert own == SourceLine(str(tmp_path / "main.py"), 1, "f")
        assert missing == SourceLine("", 0, "")
    assert len(list((cache.root / "pylines").iterdir())) == 1


def test_the_library_is_found_beside_sources_and_compiled(tmp_path: Path) -> None:
    for place, path in (
        ("os.pyc", "/lib/python3/__pycache__/os.cpython-311.pyc"),
        ("os.py", "/lib/python3/os.py"),
    ):
        tree = {"lib/python3/abc.py": Path("/lib/x"), f"lib/python3/{place}": Path(path)}
        assert Recording(tmp_path, tree).library == Path("/lib/python3")


def test_what_pylines_says_is_told(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    recording = recording_of(tmp_path, "no sample")
    with pytest.raises(BpfmatrixError, match=r"pylines resolve failed: .* no samples: line 1"):
        symbolize(recording, Script.find(tmp_path / "main.py"), cache)


def listed(*words: str, **env: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "support/host_python.py", *words],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


def test_the_hosts_python_is_listed_with_what_modules_need() -> None:
    found = listed("json", BPFMATRIX_PYTHON=sys.executable)
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    assert found["bin/python3"] == str(base)
    names = {Path(place).name.removesuffix("c") for place in found}
    assert {"os.py", "site.py", "decoder.py", "libc.so.6"} <= names
    assert any(name.startswith("ld-linux") for name in names)
    assert "sqlite3" not in "".join(found)
    whole = listed("--whole", BPFMATRIX_PYTHON=sys.executable)
    assert found.keys() <= whole.keys()
    assert any("sqlite3" in place for place in whole)
    assert not any("/test/" in place for place in whole)


def test_no_python_is_listed_for_another_architecture_or_where_there_is_none(
    tmp_path: Path,
) -> None:
    assert listed("json", BPFMATRIX_ARCH="s390x") == {}
    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\necho 3 8 cpython /usr/bin/python3.8\n")
    other.chmod(0o755)
    assert listed("json", BPFMATRIX_PYTHON=str(other)) == {}
