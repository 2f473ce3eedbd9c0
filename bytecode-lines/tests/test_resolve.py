from __future__ import annotations

import contextlib
import io
import json
import py_compile
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bytecode_lines import Index, Resolver, build, walk
from bytecode_lines.code import IMPLICIT_RETURN
from bytecode_lines.resolve import CHANGED, resolve_stream
from compiled import ENVIRONMENT, VERSIONS, functions

SOURCE = """def first(values):
    total = 0
    for value in values:
        total += value
    return total


class Thing:
    def method(self):
        return first(
            [self])
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "app.py").write_text(SOURCE)
    return folder


@pytest.fixture
def resolver(tree: Path, tmp_path: Path) -> Iterator[Resolver]:
    build([tree], tmp_path / "index")
    index = Index(tmp_path / "index")
    yield Resolver([index])
    index.close()


def offsets(name: str, line: int) -> tuple[str, int]:
    """Return the identity of a function of SOURCE, and the offset of an instruction in a line."""
    for code in walk(compile(SOURCE, "x", "exec", dont_inherit=True)):
        if code.qualified_name == name:
            starts = {at: start for start, at in code.lines.starts()}
            return str(code.identity), starts[line]
    raise AssertionError(name)


def run(samples: str, resolver: Resolver, as_json: bool = False) -> str:
    output = io.StringIO()
    resolve_stream(io.BytesIO(samples.encode()), output, resolver, as_json)
    return output.getvalue()


def sample(name: str, line: int, **more: Any) -> dict[str, Any]:
    identity, offset = offsets(name, line)
    return {"identity": identity, "offset": offset, **more}


def test_frames_become_lines(resolver: Resolver, tree: Path) -> None:
    samples = [sample("first", 4), sample("Thing.method", 11), sample("<module>", 8)]
    text = run("\n".join(map(json.dumps, samples)), resolver)
    app = tree / "app.py"
    assert text == f"{app}:4 first\n{app}:11 Thing.method\n{app}:8 <module>\n"


def test_stacks_end_with_an_empty_line(resolver: Resolver, tree: Path) -> None:
    stack = {"frames": [sample("first", 4), sample("Thing.method", 10)], "count": 7}
    app = tree / "app.py"
    assert run(json.dumps(stack), resolver) == f"{app}:4 first\n{app}:10 Thing.method\n\n"
    (line,) = run(json.dumps(stack), resolver, as_json=True).splitlines()
    result = json.loads(line)
    assert result["count"] == 7
    assert [frame["line"] for frame in result["frames"]] == [4, 10]


def test_json_keeps_all_keys_and_adds_the_place(resolver: Resolver, tree: Path) -> None:
    given = sample("first", 4, pid=1234)
    result = json.loads(run(json.dumps(given), resolver, as_json=True))
    assert result.items() >= given.items()
    columns = (8, 13) if sys.version_info >= (3, 11) else (None, None)
    position = {"line": 4, "end_line": 4, "column": columns[0], "end_column": columns[1]}
    assert result.items() >= {"function": "first", "file": str(tree / "app.py"), **position}.items()
    assert result["note"] == ""


def test_unknown_code_is_noted_and_counted(resolver: Resolver, tree: Path) -> None:
    unknown = {"identity": "1:2:3:4:0123456789abcdef", "offset": 2, "file": "/srv/x.py"}
    lines = run("\n".join(map(json.dumps, [unknown, sample("first", 2)])), resolver).splitlines()
    assert lines == [
        "/srv/x.py:? ?\tno index has 1:2:3:4:0123456789abcdef",
        f"{tree}/app.py:2 first",
    ]
    assert (resolver.counts.frames, resolver.counts.unknown) == (2, 1)


def test_an_offset_outside_of_the_code_is_noted_and_counted(resolver: Resolver) -> None:
    given = {**sample("first", 2), "offset": 9999}
    assert "app.py:? first\toffset 9999 is outside of the code, of " in run(
        json.dumps(given), resolver
    )
    assert resolver.counts.outside == 1


def test_lines_that_are_not_samples_are_counted_and_the_first_is_named(resolver: Resolver) -> None:
    # The last line is truncated, as if the tracer had been killed.
    text = "\n".join(["[]", json.dumps(sample("first", 2)), "", '{"identity": "1:'])
    assert len(run(text, resolver).splitlines()) == 1
    assert resolver.counts.bad_lines == 2
    assert resolver.counts.first_bad_line == "line 1: expected an object"


def test_a_frame_that_has_not_started(resolver: Resolver) -> None:
    identity, _ = offsets("first", 2)
    resolved = resolver.resolve(identity, -2)
    assert (resolved.position.line, resolved.function) == (1, "first")
    assert "had not started" in resolved.note


def test_functions_with_the_same_identity_are_all_told(tree: Path, tmp_path: Path) -> None:
    for name in "edcb":
        (tree / f"{name}.py").write_text(SOURCE)
    changed = tree / "a.py"
    changed.write_text(SOURCE)
    py_compile.compile(str(changed), doraise=True)
    changed.write_text(f"\n{SOURCE}")
    build([tree], tmp_path / "index")
    with contextlib.closing(Index(tmp_path / "index")) as index:
        resolver = Resolver([index])
        for _ in range(20):  # the last ones from what was kept
            assert run(json.dumps(sample("first", 4)), resolver) == (
                f"{tree}/a.py:4 first\tor {tree}/app.py:4 first, {tree}/b.py:4 first, "
                f"{tree}/c.py:4 first and 2 more\n"
            )
        assert (resolver.counts.ambiguous, resolver.counts.outside) == (20, 0)
        found = resolver.resolve(sample("first", 4)["identity"], 100_000)
        assert (found.file, found.position.line) == (f"{tree}/a.py", None)


def test_a_changed_source_is_noted(tree: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree)], check=True)
    (tree / "app.py").write_text("\n\n" + SOURCE)
    build([tree], tmp_path / "index")
    resolver = Resolver([Index(tmp_path / "index")])
    assert run(json.dumps(sample("first", 4)), resolver).endswith(f"app.py:4 first\t{CHANGED}\n")


def test_one_identity_of_several_functions(tree: Path, tmp_path: Path) -> None:
    (tree / "copy").mkdir()
    (tree / "copy/app.py").write_text(SOURCE)
    (tree / "copy/named.py").write_text(SOURCE)
    build([tree], tmp_path / "index")
    resolver = Resolver([Index(tmp_path / "index")])
    given = sample("first", 4)
    (line,) = run(json.dumps(given), resolver).splitlines()
    first, note = line.split("\t")
    copies = [tree / "copy/app.py", tree / "copy/named.py", tree / "app.py"]
    named = [f"{path}:4 first" for path in sorted(map(str, copies))]
    assert first == named[0]
    assert note == f"or {named[1]}, {named[2]}"
    assert resolver.counts.ambiguous == 1
    # The file decides, even if the process sees it at another path.
    for file, expected in [
        (str(tree / "app.py"), tree / "app.py"),
        ("/srv/copy/app.py", tree / "copy/app.py"),
        ("named.py", tree / "copy/named.py"),
    ]:
        assert run(json.dumps({**given, "file": file}), resolver) == f"{expected}:4 first\n"
    assert "?\tno index has" in run(json.dumps({**given, "file": "/srv/x.py"}), resolver)
    assert resolver.counts.ambiguous == 1


def test_the_name_of_the_function_decides(tree: Path, tmp_path: Path) -> None:
    (tree / "other.py").write_text(SOURCE.replace("first", "other"))
    build([tree], tmp_path / "index")
    resolver = Resolver([Index(tmp_path / "index")])
    given = sample("first", 4)
    for name in ("first", "other"):
        assert resolver.resolve(**given, function=name).function == name
    assert resolver.resolve(**given, function="third").note.startswith("no index has")
    assert resolver.counts.ambiguous == 0
    # Up to 3.10, a code object has no qualified name.
    assert resolver.resolve(**sample("Thing.method", 10), function="method").file


def own_table(text: str, name: str, file: str) -> dict[str, Any]:
    """Return what a process can tell of a function."""
    (code,) = (
        c for c in walk(compile(text, file, "exec", dont_inherit=True)) if c.qualified_name == name
    )
    return {
        "identity": str(code.identity),
        "file": file,
        "function": name,
        "table": code.table.hex(),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
    }


def test_code_of_no_index_has_the_lines_of_its_own_table(resolver: Resolver) -> None:
    text = "\n\ndef own(x):\n    y = x\n    return y\n"
    given = own_table(text, "own", "<string>")
    (code,) = (
        c for c in walk(compile(text, "x", "exec", dont_inherit=True)) if c.qualified_name == "own"
    )
    for offset in range(0, code.code_length, 2):
        resolved = resolver.resolve(**given, offset=offset)
        expected = code.lines.at(offset)
        assert (resolved.file, resolved.function) == ("<string>", "own")
        assert resolved.position == expected
    assert run(json.dumps({**given, "offset": -2}), resolver).startswith("<string>:3 own\t")
    assert resolver.counts.unknown == 0


@pytest.mark.parametrize(
    "change", [{"table": "zz"}, {"table": "00"}, {"python": ""}, {"table": ""}]
)
def test_a_table_that_is_of_no_use_is_ignored(resolver: Resolver, change: dict[str, str]) -> None:
    given = {**own_table("def own(): pass\n", "own", "<string>"), **change, "offset": 0}
    if sys.version_info < (3, 11) and change == {"table": "00"}:
        given["table"] = "000"
    resolved = resolver.resolve(**given)
    assert (resolved.file, resolved.position.line) == ("<string>", None)
    assert resolver.counts.unknown == 1


def test_code_of_exec_is_not_that_of_a_file(resolver: Resolver) -> None:
    equal = own_table(SOURCE, "first", "<string>")
    assert resolver.resolve(**equal, offset=0).file == "<string>"
    frozen = {**equal, "file": "<frozen app>"}
    assert resolver.resolve(**frozen, offset=0).file.endswith("app.py")


def test_an_implicit_return_is_noted(compiled_fixtures: Path, tmp_path: Path) -> None:
    build([compiled_fixtures], tmp_path / "index")
    resolver = Resolver([Index(tmp_path / "index")])
    code = functions((3, 8))["branch"]
    resolved = resolver.resolve(str(code.identity), code.code_length - 2, python="3.8")
    assert resolved.note == IMPLICIT_RETURN


def test_the_version_decides(compiled_fixtures: Path, tmp_path: Path) -> None:
    build([compiled_fixtures], tmp_path / "index")
    index = Index(tmp_path / "index")
    identity = str(functions((3, 8))["generator"].identity)
    assert len({entry.file.version for entry in index.entries(identity)}) > 1
    for python in ("3.8", "3.9"):
        assert Resolver([index]).resolve(identity, 0, python=python).function == "generator"
    assert Resolver([index]).resolve(identity, 0, python="3.13").function == ""


def test_several_indexes(tree: Path, fixtures: Path, tmp_path: Path) -> None:
    build([tree], tmp_path / "a")
    build([fixtures], tmp_path / "b")
    resolver = Resolver([Index(tmp_path / "a"), Index(tmp_path / "b")])
    code = functions((3, 13))["backwards"]
    assert resolver.resolve(*offsets("first", 2)).function == "first"
    assert resolver.resolve(str(code.identity), 4).function == "backwards"


def test_the_cache_has_a_limit(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bytecode_lines.resolve._MAX_FUNCTIONS_BYTES", 1)
    monkeypatch.setattr("bytecode_lines.resolve._MAX_FREQUENT_RANGES", 1)
    monkeypatch.setattr("bytecode_lines.resolve._FREQUENT_CALLS", 2)
    for _ in range(3):
        assert resolver.resolve(*offsets("first", 2)).position.line == 2
        assert resolver.resolve(*offsets("first", 4)).position.line == 4
        assert resolver.resolve(*offsets("Thing.method", 11)).position.line == 11


def test_an_index_that_is_read_at_once_gives_the_same(
    compiled_fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build([compiled_fixtures], tmp_path / "index")
    codes = [code for version in VERSIONS for code in functions(version).values()]
    places = [(str(code.identity), offset) for code in codes for offset in range(-2, 40, 6)]
    one_by_one = Resolver([Index(tmp_path / "index")])
    expected = [one_by_one.resolve(*place) for place in places]
    monkeypatch.setattr("bytecode_lines.resolve._FEW_CODES", 3)
    monkeypatch.setattr("bytecode_lines.resolve._FEW_OF_ALL", 0)
    index = Index(tmp_path / "index")
    at_once = Resolver([index])
    for place in places[:200]:
        at_once.resolve(*place)
    index.close()  # so nothing more can be read
    assert [at_once.resolve(*place) for place in places] == expected
    assert at_once.resolve("1:2:3:4:0123456789abcdef", 0).function == ""


def command(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "bytecode_lines", *map(str, words)]
    return subprocess.run(run, env=ENVIRONMENT, capture_output=True, text=True, check=False, **more)


def test_the_command(tree: Path, tmp_path: Path) -> None:
    done = command("index", tree, "-o", tmp_path / "index")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{tmp_path}/index: 4 code objects of 1 files\n"
    (tmp_path / "samples").write_text(json.dumps(sample("first", 4)) + "\n")
    for words in ([tmp_path / "samples"], []):
        done = command(
            "resolve", "-i", tmp_path / "index", *words, input=(tmp_path / "samples").read_text()
        )
        assert (done.returncode, done.stdout) == (0, f"{tree}/app.py:4 first\n")
        assert done.stderr == "1 frames\n"
    (tree / "copy.py").write_text(SOURCE)
    done = command("index", tree, "-o", tmp_path / "index")
    assert done.stderr.endswith(": 8 code objects of 2 files; 8 share 4 identities\n")
    done = command("lines", tree / "app.py", "--function", "Thing.method")
    assert done.stdout.startswith("Thing.method  Python 3.")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["index", "/nowhere", "-o", "x"], 1, "error: /nowhere: no such file or folder"),
        (["resolve", "-i", "/nowhere"], 1, "error: /nowhere: no such index\nMake one: "),
        (["resolve"], 2, "required: -i"),
        (["lines", "/nowhere.pyc"], 1, "error: /nowhere.pyc: No such file"),
        (["lines", "/nowhere.py"], 1, "error: /nowhere.py: No such file"),
        (["index", ".", "-o", "x", "--python", "three"], 2, "expected a version such as 3.13"),
    ],
)
def test_errors_of_a_user_are_not_tracebacks(
    words: list[str], status: int, message: str, tmp_path: Path
) -> None:
    done = command(*words, cwd=tmp_path)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_calls_itself_as_it_was_called(tmp_path: Path) -> None:
    start = "import sys; from bytecode_lines import __main__; del sys.argv[0]; __main__.main()"
    for called, program in (
        ("/usr/bin/bytecode-lines", "bytecode-lines"),
        ("/x/bytecode_lines/__main__.py", "python -m bytecode_lines"),
    ):
        for words, said in (
            (["resolve"], f"usage: {program} resolve "),
            (["resolve", "-i", "none"], f"Make one: {program} index DIR -o none\n"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", start, called, *words],
                cwd=tmp_path,
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert said in done.stderr


def test_the_command_tells_its_version() -> None:
    done = command("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"bytecode-lines (\d+\.\d.*|of .*, which is not installed)\n", done.stdout)


def test_bad_lines_make_the_command_fail_at_its_end(tree: Path, tmp_path: Path) -> None:
    command("index", tree, "-o", tmp_path / "index")
    samples = "nothing\n" + json.dumps(sample("first", 4)) + "\n"
    done = command("resolve", "-i", tmp_path / "index", input=samples)
    assert done.returncode == 1
    assert done.stdout == f"{tree}/app.py:4 first\n"
    assert "error: 1 of the lines were no samples: line 1: " in done.stderr


def test_samples_are_resolved_as_they_arrive(tree: Path, tmp_path: Path) -> None:
    command("index", tree, "-o", tmp_path / "index")
    words = [sys.executable, "-m", "bytecode_lines", "resolve", "-i", str(tmp_path / "index")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, env=ENVIRONMENT) as process:
        assert process.stdin
        assert process.stdout
        for line in (2, 4):
            process.stdin.write(json.dumps(sample("first", line)).encode() + b"\n")
            process.stdin.flush()
            # This returns although the stream is still open; otherwise it would wait for ever.
            assert process.stdout.readline() == f"{tree}/app.py:{line} first\n".encode()
        process.stdin.close()


def test_a_reader_that_had_enough_is_no_traceback(tree: Path, tmp_path: Path) -> None:
    command("index", tree, "-o", tmp_path / "index")
    (tmp_path / "samples").write_text((json.dumps(sample("first", 4)) + "\n") * 50_000)
    words = [sys.executable, "-m", "bytecode_lines", "resolve", "-i", "index", "samples"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdout=pipe, stderr=pipe, cwd=tmp_path, env=ENVIRONMENT
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_it_runs_in_a_python_that_has_no_packages() -> None:
    # The profiler runs it with the Python that was profiled, which must compile the sources.
    words = [sys.executable, "-S", "-m", "bytecode_lines", "--help"]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.integration
def test_many_code_objects_take_little_memory(tmp_path: Path) -> None:
    # 10,000 code objects with 50 ranges each, as those of the standard library have on average.
    body = "".join(f"    b.c{n} = d(a, e.f)\n" for n in range(5))
    source = "".join(f"def f{n}(a, b, d, e):\n{body}" for n in range(10_000))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/many.py").write_text(source)
    build([tmp_path / "tree"], tmp_path / "index")
    module = compile(source, "", "exec", dont_inherit=True)
    identities = [str(code.identity) for code in walk(module)][1:]
    with (tmp_path / "samples").open("w") as samples:
        for offset in range(0, 60, 6):
            for identity in identities:
                samples.write(json.dumps({"identity": identity, "offset": offset}) + "\n")
    # ru_maxrss would include the memory of this process.
    script = (
        "import sys; from bytecode_lines.__main__ import run; run(sys.argv[1:]);"
        "print(*[line for line in open('/proc/self/status') if 'VmHWM' in line], file=sys.stderr)"
    )
    words = [sys.executable, "-c", script, "resolve", "-i", "index", "samples"]
    done = subprocess.run(
        words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    counts, most, *_ = done.stderr.splitlines()
    assert counts == "100000 frames"
    assert int(most.split()[1]) < 300_000
