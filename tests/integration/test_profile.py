"""`invoke profile-python` with a script whose hottest line is known."""

import re
from xml.etree import ElementTree

import pytest

from tests.tool import ToolProject

pytestmark = pytest.mark.integration

SCRIPT = """\
import sys

from hot import spin

print("begins", *sys.argv[1:], flush=True)


def cold():
    return sum(range(10))


cold()
spin(int(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""
MODULE = """\
def spin(turns):
    value = 0
    for _ in range(turns): value = value * 31 + 7 & 0xFFFF
    return value
"""


@pytest.fixture
def scripts(project: ToolProject) -> ToolProject:
    (project.root / "scripts").mkdir()
    (project.root / "scripts/main.py").write_text(SCRIPT)
    (project.root / "scripts/hot.py").write_text(MODULE)
    return project


def test_the_hottest_line_is_that_of_the_loop(scripts: ToolProject) -> None:
    flame, folded = scripts.root / "out/flame.svg", scripts.root / "out/stacks.folded"
    done = scripts.invoke(
        *("profile-python", "--kernel", "6.1", "scripts/main.py"),
        *("--flamegraph", str(flame), "-o", str(folded)),
        *("-o", str(folded.with_suffix(".pb.gz")), "--", "400000", "0"),
    )
    assert done.status == 0, done.output
    assert "begins 400000 0" in done.output
    first = re.search(r"^ here .*\n(.*)", done.output, re.M)
    assert first, done.output
    own, with_calls, line, function = first[1].split()[:4]
    assert (line, function) == ("scripts/hot.py:3", "spin")
    assert "value = value * 31" in first[1]
    assert float(own[:-1]) <= float(with_calls[:-1])
    told = "".join(ElementTree.parse(flame).getroot().itertext())
    assert "scripts/hot.py:3 spin: " in told
    # The caller of that line.
    assert "main.py:13 <module>: " in told
    assert "<module> (main.py:13);spin (hot.py:3) " in folded.read_text()
    assert folded.with_suffix(".pb.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_the_exit_status_of_the_script_is_reported(scripts: ToolProject) -> None:
    done = scripts.invoke("profile-python", "--kernel", "6.1", "scripts/main.py", "--", "9", "3")
    assert done.status == 1
    assert "note: the script exited with 3" in done.output


def test_a_script_that_is_stopped_at_its_limit_is_profiled_up_to_it(scripts: ToolProject) -> None:
    # The limit leaves a busy machine the time to start Python.
    done = scripts.invoke(
        *("profile-python", "--kernel", "6.1", "scripts/main.py", "--timeout", "12s"),
        *("--", "99999999", "0"),
    )
    assert done.status == 1
    assert "note: the script was stopped after its limit of 12 s" in done.output
    assert "scripts/hot.py:3 spin" in done.output


def test_a_file_of_an_unknown_format_is_refused_before_the_guest_starts(
    scripts: ToolProject,
) -> None:
    done = scripts.invoke("profile-python", "--kernel", "6.1", "scripts/main.py", "-o", "a.json")
    assert done.status == 2
    assert "--output a.json: expected a file name that ends in .svg, " in done.output
    assert "boot" not in done.output


def test_a_missing_script_is_named(scripts: ToolProject) -> None:
    done = scripts.invoke("profile-python", "--kernel", "6.1", "missing.py")
    assert done.status == 2
    assert "missing.py: no such script" in done.output


def test_a_python_that_can_not_be_profiled_is_refused(scripts: ToolProject) -> None:
    done = scripts.invoke(
        *("profile-python", "--kernel", "6.1", "scripts/main.py"),
        env={"BPFMATRIX_PYTHON": "/bin/true"},
    )
    assert done.status == 1
    assert "no CPython 3.11, 3.12 or 3.13 for x86_64" in done.output
