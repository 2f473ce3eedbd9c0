"""Every version of Python on three kernels: the table of docs/profiling-python.md.

Versions that neither this machine nor a release of Debian has are left out, and named.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pythons
from tests.tool import ToolProject

KERNELS = ("5.10", "6.1", "7.3")
VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")

# Each function spins in one line, under another case's name.
CASES = """\
import os
import sys
import threading

TURNS = int(sys.argv[1])


def spin():
    value = 0
    for _ in range(TURNS): value = value * 31 + 7 & 0xFFFF


def nested():
    return (lambda: [spin() for _ in "x"])()


def generated():
    def generator():
        yield spin()
    return list(generator())


class Type:
    def method(self): return spin()


def recursion(depth):
    return recursion(depth - 1) if depth else spin()


def of_thread():
    return spin()


def of_fork():
    return spin()


def executed():
    exec(compile("def of_exec(): spin()\\nof_exec()", "<made>", "exec"), {"spin": spin})


nested()
generated()
Type().method()
recursion(500)
thread = threading.Thread(target=of_thread)
thread.start()
thread.join()
executed()
if not os.fork():
    of_fork()
    os._exit(0)
os.wait()
print("CPython", sys.version.split()[0])
"""


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    version = request.param
    if found := pythons.on_this_machine(version):
        return found
    if version not in pythons.SUITES:
        pytest.skip(f"neither this machine nor a release of Debian has Python {version}")
    return str(pythons.of_debian(version, tmp_path_factory.mktemp("debian")))


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_case(project: ToolProject, python: str, kernel: str) -> None:
    project.configure(kernels=KERNELS)
    (project.root / "cases.py").write_text(CASES)
    folded = project.root / "cases.folded"
    done = project.invoke(
        *("profile-python", "--kernel", kernel, "cases.py", "--python", python),
        *("--output", str(folded), "--", "60000"),
    )
    assert done.status == 0, done.output
    stacks = [line.rpartition(" ")[0].split(";") for line in folded.read_text().splitlines()]
    spinning = [stack for stack in stacks if re.fullmatch(r"spin .*cases\.py:10\)?", stack[-1])]
    assert spinning, done.output
    seen = {frame.split()[0] for stack in spinning for frame in stack}
    # From 3.11 on, CPython knows qualified names. Up to then, they come from the script's index.
    for name in ("nested", "generated", "method", "recursion", "of_thread", "of_fork", "of_exec"):
        assert any(frame.rpartition(".")[2] == name for frame in seen), (name, sorted(seen))
    assert max(map(len, spinning)) > 500
    forked = [stack for stack in spinning if stack[0] == "fork of cases.py"]
    assert {frame.split()[0] for stack in forked for frame in stack} >= {"of_fork"}
    assert "lost" not in done.output


NUMBERS = """\
import sys

import numpy

values = numpy.arange(200.0)
total = 0.0
for _ in range(int(sys.argv[1])): total += float(numpy.dot(values, values))
print("numpy", numpy.__version__, total)
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_numpy_of_a_virtual_environment(project: ToolProject, kernel: str, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin/pip", "install", "--quiet", "numpy"], check=True)
    project.configure(kernels=KERNELS)
    (project.root / "dots.py").write_text(NUMBERS)
    done = project.invoke(
        *("profile-python", "--kernel", kernel, "dots.py"),
        *("--python", str(environment / "bin/python"), "--", "60000"),
    )
    assert done.status == 0, done.output
    assert "numpy " in done.output
    first = re.search(r"^ here .*\n(.*)", done.output, re.M)
    assert first, done.output
    assert "dots.py:7 <module>" in first[1]
