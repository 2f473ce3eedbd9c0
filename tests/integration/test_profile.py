"""`invoke profile-python` with a script whose hottest line is known."""

import re
import shutil
import subprocess
import sys
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
    assert done.status == 2
    assert "BPFMATRIX_PYTHON: /bin/true is not a Python interpreter" in done.output


PACKAGE = '''\
"""A package with a shared library, as auditwheel places it, and with data."""
import ctypes
import pathlib

HERE = pathlib.Path(__file__).parent
LIBRARY = ctypes.CDLL(str(HERE.parent / "tiny.libs" / "libz-0a1b2c3d.so"))


def busy(turns):
    value = (HERE / "data.txt").read_text().strip()
    for _ in range(turns): LIBRARY.zlibVersion(); value = value[:9] + "x"
    return value
'''
TOOL = """\
import sys
import threading
import time

import tiny

assert not sys.argv, "assertions run"
# glibc ends this thread by means of libgcc_s.
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
with open("tools/word.txt") as file:  # of the working directory
    print(tiny.busy(int(sys.argv[1])), sys.flags.optimize, file.read(), flush=True)
"""


def test_a_module_of_a_virtual_environment_runs_with_flags(scripts: ToolProject) -> None:
    environment, tool = scripts.root / "env", scripts.root / "tools/tool.py"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    # Any library will do. That of zlib is there wherever a Python is.
    loaded = subprocess.run(
        [sys.executable, "-c", "import zlib; print(open('/proc/self/maps').read())"],
        capture_output=True,
        text=True,
        check=True,
    )
    libz = re.search(r"/\S*/libz\.so\S*", loaded.stdout)
    assert libz, loaded.stdout
    for name, text in {"tiny/__init__.py": PACKAGE, "tiny/data.txt": "abc\n"}.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    (site / "tiny.libs").mkdir()
    shutil.copy(libz[0], site / "tiny.libs/libz-0a1b2c3d.so")
    record = "tiny/__init__.py,,\ntiny/data.txt,,\ntiny.libs/libz-0a1b2c3d.so,,\n"
    (site / "tiny-1.dist-info").mkdir()
    (site / "tiny-1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n"
    )
    (site / "tiny-1.dist-info/RECORD").write_text(record)
    tool.parent.mkdir()
    tool.write_text(TOOL)
    (tool.parent / "word.txt").write_text("word")
    done = scripts.invoke(
        *("profile-python", "--kernel", "6.1", "-m", "tools.tool"),
        *("--python", str(environment / "bin/python"), "--python-args=-O", "--rate", "100"),
        *("--", "30000"),
    )
    assert done.status == 0, done.output
    assert "abcxxxxxxx 1 word" in done.output
    first = re.search(r"^ here .*\n(.*)", done.output, re.M)
    assert first, done.output
    assert "tiny/__init__.py:11 busy" in first[1]


CHILDREN = """\
import multiprocessing
import os
import subprocess
import sys


def forked(turns):
    value = 0
    for _ in range(turns): value = value * 31 + 7 & 0xFFFF
    return value


def spawned(turns):
    value = 0
    for _ in range(turns): value = value * 31 + 7 & 0xFFFF
    return value


if __name__ == "__main__":
    turns = int(sys.argv[1])
    process = multiprocessing.get_context("spawn").Process(target=spawned, args=(turns,))
    process.start()
    pid = os.fork()
    if not pid:
        forked(turns)
        os._exit(0)
    os.waitpid(pid, 0)
    process.join()
    code = f"for _ in range({turns}): value = 7 * 31 & 0xFFFF"
    assert subprocess.run([sys.executable, "-c", code]).returncode == process.exitcode == 0
    subprocess.run(["/bin/busybox", "true"], check=True)
"""


def test_children_are_sampled_each_under_its_name(scripts: ToolProject) -> None:
    (scripts.root / "scripts/children.py").write_text(CHILDREN)
    folded = scripts.root / "out.folded"
    done = scripts.invoke(
        *("profile-python", "--kernel", "6.1", "scripts/children.py"),
        *("--output", str(folded), "--", "200000"),
    )
    assert done.status == 0, done.output
    # The innermost functions of each process.
    inner: dict[str, set[str]] = {}
    for line in folded.read_text().splitlines():
        process, *frames = line.rpartition(" ")[0].split(";")
        inner.setdefault(process, set()).add(frames[-1].split()[0])
    names = {"children.py", "fork of children.py", "multiprocessing.spawn", "python3 -c"}
    assert names <= inner.keys(), done.output
    assert "forked" in inner["fork of children.py"]
    assert "spawned" in inner["multiprocessing.spawn"]
    assert "forked" not in inner["children.py"] | inner["multiprocessing.spawn"]
    assert "note: 1 process in which no Python was found before it ended: busybox" in done.output
