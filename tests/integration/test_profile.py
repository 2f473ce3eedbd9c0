"""`invoke profile-python`: a script in a guest, whose hottest lines are known."""

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


def test_the_hottest_line_is_the_one_that_spins(scripts: ToolProject) -> None:
    flame = scripts.root / "out/flame.svg"
    done = scripts.invoke(
        *("profile-python", "--kernel", "6.1", "scripts/main.py"),
        *("--flamegraph", str(flame), "--", "400000", "0"),
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
    # And what called it.
    assert "main.py:13 <module>: " in told


def test_a_script_that_fails_and_one_that_never_ends(scripts: ToolProject) -> None:
    done = scripts.invoke("profile-python", "--kernel", "6.1", "scripts/main.py", "--", "9", "3")
    assert done.status == 1
    assert "note: the script exited with 3" in done.output

    done = scripts.invoke(
        *("profile-python", "--kernel", "6.1", "scripts/main.py", "--timeout", "6s"),
        *("--", "99999999", "0"),
    )
    assert done.status == 1
    assert "note: the script was stopped after its limit of 6 s" in done.output
    assert "scripts/hot.py:3 spin" in done.output


def test_what_can_not_be_profiled_says_why(scripts: ToolProject) -> None:
    done = scripts.invoke("profile-python", "--kernel", "6.1", "missing.py")
    assert done.status == 2
    assert "missing.py: no such script" in done.output
    done = scripts.invoke(
        "profile-python",
        "--kernel",
        "6.1",
        "scripts/main.py",
        env={"BPFMATRIX_PYTHON": "/bin/true"},
    )
    assert done.status == 1
    assert "no CPython 3.11, 3.12 or 3.13 for x86_64" in done.output
