"""The files of a profile, each read by the program that it is for, or by its schema."""

import base64
import gzip
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.profile import folded, outputs, pprof, speedscope
from bpfmatrix.profile.stacks import SourceLine, Stack, frame_name, short_names
from tests.browser import open_file, wait
from tests.profile.samples import STACKS

SPEEDSCOPE = Path(__file__).parents[2] / "node_modules/speedscope/dist/release"
WILD = SourceLine('/x/a;b <&>"\n \x1b[31m\ud800 日本.py', 3, "f.<locals>.<lambda>")
SPIN = SourceLine("/x/hot.py", 3, "spin")
STEP = SourceLine("/x/hot.py", 9, "step")
MAIN = SourceLine("/x/main.py", 13, "<module>")
UNKNOWN = SourceLine("", 0, "")
SAMPLE = [
    Stack((SPIN, MAIN), 70, 8),
    Stack((STEP, SPIN, MAIN), 20, 8),
    Stack((SPIN, MAIN), 5, 9, "worker 9"),
    Stack((WILD, UNKNOWN), 4, 8),
    Stack(tuple(SourceLine("/x/deep.py", number, "deep") for number in range(1, 2001)), 1, 8),
]


# ---- folded stacks ---------------------------------------------------------------------------


def test_folded_stacks_name_the_outermost_line_first() -> None:
    assert folded.render(SAMPLE[:3]).splitlines() == [
        "<module> (main.py:13);spin (hot.py:3) 70",
        "<module> (main.py:13);spin (hot.py:3);step (hot.py:9) 20",
        "worker 9;<module> (main.py:13);spin (hot.py:3) 5",
    ]


def test_a_thread_has_the_name_that_it_was_given() -> None:
    stacks = [Stack((SPIN,), 2, 8), Stack((SPIN,), 1, 9, thread_name="worker-1")]
    profiles = json.loads(speedscope.render(stacks, "title"))["profiles"]
    assert [profile["name"] for profile in profiles] == ["thread 8", "thread 9 worker-1"]
    text = gzip.decompress(pprof.render(stacks, "title"))
    assert b"thread name" in text
    assert b"worker-1" in text


def test_a_truncated_stack_says_that_lines_are_missing() -> None:
    stack = Stack((SPIN, MAIN), 2, 8, truncated="too deep")
    assert folded.render([stack]) == (
        "(outer lines are missing);<module> (main.py:13);spin (hot.py:3) 2\n"
    )


def test_files_of_the_same_name_stay_apart() -> None:
    paths = ["/x/a/__init__.py", "/x/b/__init__.py", "/x/c.py", "/y/a/__init__.py", "__init__.py"]
    stacks = [Stack((SourceLine(path, 3, "<module>"),), 1, 8) for path in paths]
    names = [
        "<module> (x/a/__init__.py:3)",
        "<module> (b/__init__.py:3)",
        "<module> (c.py:3)",
        "<module> (y/a/__init__.py:3)",
        "<module> (__init__.py:3)",
    ]
    assert folded.render(stacks) == "".join(f"{name} 1\n" for name in names)
    file = json.loads(speedscope.render(stacks, "title"))
    assert [frame["name"] for frame in file["shared"]["frames"]] == names


@given(st.text(), st.text(min_size=1))
def test_no_name_ends_a_frame_or_a_line(function: str, file: str) -> None:
    stack = Stack((SourceLine(file, 1, function), MAIN), 7, 1)
    text = folded.render([stack])
    [line] = text.splitlines()
    assert re.fullmatch(r"<module> \(main\.py:13\);[^;]+ 7", line)
    text.encode()


@given(STACKS)
def test_folded_stacks_have_all_samples(stacks: list[Stack]) -> None:
    counts = [int(line.rpartition(" ")[2]) for line in folded.render(stacks).splitlines()]
    assert sum(counts) == sum(stack.count for stack in stacks)


# ---- speedscope ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speedscope_schema() -> Any:
    return json.loads((SPEEDSCOPE / "file-format-schema.json").read_text())


@pytest.mark.integration
def test_speedscope_files_are_valid(speedscope_schema: Any) -> None:
    for stacks in (SAMPLE, []):
        jsonschema.validate(json.loads(speedscope.render(stacks, "title")), speedscope_schema)


@given(STACKS)
def test_a_speedscope_file_has_the_stacks_of_each_thread(stacks: list[Stack]) -> None:
    file = json.loads(speedscope.render(stacks, "title"))
    names = [frame["name"] for frame in file["shared"]["frames"]]
    read: Counter[Any] = Counter()
    for profile in file["profiles"]:
        assert profile["endValue"] == sum(profile["weights"])
        for sample, weight in zip(profile["samples"], profile["weights"], strict=True):
            read[profile["name"], tuple(names[frame] for frame in reversed(sample))] += weight
    expected: Counter[Any] = Counter()
    files = short_names(line.file for stack in stacks for line in stack.lines)
    for stack in stacks:
        thread = f"{stack.process} thread {stack.thread}".strip()
        lines = reversed(stack.from_outermost())
        expected[thread, tuple(frame_name(line, files) for line in lines)] += stack.count
    assert read == expected


@pytest.mark.integration
def test_speedscope_opens_its_file(browser: Any, tmp_path: Path) -> None:
    # speedscope's own program writes such a script beside its page (bin/cli.mjs).
    text = speedscope.render(SAMPLE, "primes.py on 6.1")
    script = tmp_path / "profile.js"
    encoded = base64.b64encode(text.encode()).decode()
    script.write_text(f"speedscope.loadFileFromBase64('p.speedscope.json', '{encoded}')")
    open_file(
        browser,
        SPEEDSCOPE / "index.html",
        f"localProfilePath={script}",
        "document.title.startsWith('primes.py on 6.1')",
    )
    # The first profile is that of the thread with the most samples.
    assert "thread 8 (1/2)" in wait(browser, "document.body.innerText")


# ---- pprof -----------------------------------------------------------------------------------


def gopprof(path: Path, *words: str) -> str:
    done = subprocess.run(
        ["go", "tool", "pprof", *words, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.integration
def test_pprof_shows_the_hottest_functions_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "profile.pb.gz"
    path.write_bytes(pprof.render(SAMPLE, "primes.py on 6.1"))
    top = [line.split() for line in gopprof(path, "-top", "-nodecount=3").splitlines()]
    assert ["75", "75.00%", "75.00%", "95", "95.00%", "spin"] in top
    assert ["20", "20.00%", "95.00%", "20", "20.00%", "step"] in top
    lines = gopprof(path, "-top", "-lines", "-nodecount=2")
    assert re.search(r"75 75\.00% 75\.00% +95 95\.00% +spin /x/hot\.py:3\n", lines)
    raw = gopprof(path, "-raw")
    assert "samples/count" in raw
    assert "process:[worker 9]" in raw
    assert raw.count("deep") >= 2000
    assert re.search(r"primes\.py on 6\.1 +\[FN\]\[FL\]\[LN\]", raw)


def test_equal_profiles_are_equal_files() -> None:
    assert pprof.render(SAMPLE, "title") == pprof.render(SAMPLE, "title")


def fields(message: bytes) -> dict[int, list[int | bytes]]:
    """Return the fields of an encoded message, by their numbers."""
    found: dict[int, list[int | bytes]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(varint())
        else:
            assert key & 7 == 2
            length = varint()
            found.setdefault(key >> 3, []).append(message[at : at + length])
            at += length
    return found


@given(STACKS)
def test_a_pprof_file_refers_only_to_what_it_has(stacks: list[Stack]) -> None:
    profile = fields(gzip.decompress(pprof.render(stacks, "title")))
    strings = profile[6]
    assert strings[0] == b""
    assert len(strings) == len(set(strings))
    locations = [fields(location) for location in profile.get(4, [])]  # type: ignore[arg-type]
    assert [location[1] for location in locations] == [[n + 1] for n in range(len(locations))]
    functions = len(profile.get(5, []))
    for location in locations:
        [line] = location[4]
        assert 1 <= fields(line)[1][0] <= functions  # type: ignore[arg-type,operator]
    assert len(profile.get(2, [])) == len(stacks)


# ---- names of files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.svg", ".svg"),
        ("a.folded", ".folded"),
        ("a.b.txt", ".txt"),
        ("a.speedscope.json", ".speedscope.json"),
        ("a.pb.gz", ".pb.gz"),
    ],
)
def test_the_end_of_a_name_says_the_format(tmp_path: Path, name: str, suffix: str) -> None:
    assert outputs.suffix_of(Path(name)) == suffix
    outputs.write(SAMPLE, "title", tmp_path / "out" / name, suffix)
    assert (tmp_path / "out" / name).stat().st_size > 0


@pytest.mark.parametrize("name", ["a", "a.json", "a.gz", "a.svg.png", "svg"])
def test_another_end_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"ends in \.svg, .* or \.pb\.gz"):
        outputs.suffix_of(Path(name))


def test_a_file_that_is_named_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("p.svg", "p.folded", "./p.svg", str(tmp_path / "p.svg"), "sub/../p.folded")
    pairs = [(Path(name), outputs.suffix_of(Path(name))) for name in names]
    assert outputs.distinct(pairs) == pairs[:2]
