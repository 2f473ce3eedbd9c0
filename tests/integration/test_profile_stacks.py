"""`profile-python` with deep stacks, and with code that is in no file of the guest's Python."""

import re

import pytest

from tests.tool import ToolProject

pytestmark = pytest.mark.integration

# Three of four turns are at the end of 2,000 calls.
DEEP = """\
import sys
import time

sys.setrecursionlimit(4000)
END = time.monotonic() + 2


def spin(turns):
    for _ in range(turns): pass


def deep():
    spin(30_000)


def shallow():
    spin(10_000)


def recurse(depth):
    if depth:
        return recurse(depth - 1)
    deep()


while time.monotonic() < END:
    recurse(2_000)
    shallow()
"""


def test_deep_stacks_lose_nothing(project: ToolProject) -> None:
    (project.root / "deep.py").write_text(DEEP)
    folded = project.root / "deep.folded"
    done = project.invoke(
        *("profile-python", "--kernel", "6.1", "deep.py", "--rate", "100", "-o", str(folded))
    )
    assert done.status == 0, done.output
    assert " lost" not in done.output
    assert "lack outer lines" not in done.output
    counts = {"deep": 0, "shallow": 0}
    for line in folded.read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        functions = [re.sub(r" \(.*", "", frame) for frame in stack.split(";")]
        for name in {"deep", "shallow"}.intersection(functions):
            counts[name] += int(count)
        if "deep" in functions:
            assert functions.count("recurse") == 2_001
    assert counts["deep"] > counts["shallow"] > 0


# What each spin() runs is in line 7 of its source.
SPIN = """
class Held:
    def spin(self, turns):
        "A docstring."
        assert turns
        value = 0
        for _ in range(turns): value = value * 31 + 7 & 0xFFFF
"""
NAMES = f"""{SPIN}
import importlib._bootstrap as frozen
import sys
import zipfile

SPIN = {SPIN!r}
TURNS = 150_000

scope = {{}}
exec(SPIN, scope)
scope["Held"]().spin(TURNS)
with zipfile.ZipFile("/tmp/lib.zip", "w") as archive:
    archive.writestr("zipped.py", "\\n" + SPIN)
sys.path.insert(0, "/tmp/lib.zip")
import zipped
zipped.Held().spin(TURNS)
Held().spin(TURNS)
for _ in range(TURNS // 2): frozen._verbose_message("x")
"""


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_code_that_no_index_has_has_its_function_and_line(project: ToolProject, flag: str) -> None:
    (project.root / "names.py").write_text(NAMES)
    folded = project.root / "names.folded"
    done = project.invoke(
        *("profile-python", "--kernel", "6.1", "names.py", f"--python-args={flag}"),
        *("-o", str(folded)),
    )
    assert done.status == 0, done.output
    innermost = {line.rsplit(" ", 1)[0].split(";")[-1] for line in folded.read_text().splitlines()}
    assert {
        "Held.spin (<string>:7)",
        "Held.spin (zipped.py:8)",
        "Held.spin (names.py:7)",
    } <= innermost
    assert any(
        re.fullmatch(r"_verbose_message \(_bootstrap.py:\d+\)", frame) for frame in innermost
    )
    assert "code of no file" not in done.output
