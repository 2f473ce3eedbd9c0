"""support/host_python.py, which lists the files of a Python that the guest needs."""

import json
import platform
import runpy
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tool import REPOSITORY

SCRIPT = REPOSITORY / "support/host_python.py"
SUPPORTED = runpy.run_path(str(SCRIPT))["SUPPORTED"]


def run(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, SCRIPT, *words],
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def listed(*words: str, **env: str) -> dict[str, str]:
    """Return what the script lists: paths of the host, by their places in the guest."""
    done = run(*words, **env)
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_python_is_listed_with_the_files_that_modules_need() -> None:
    found = listed("json", BPFMATRIX_PYTHON=sys.executable)
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    assert found["bin/python3"] == str(base)
    names = {Path(place).name.removesuffix("c") for place in found}
    # libgcc_s is loaded by the C library when a thread is ended from outside.
    assert {"os.py", "site.py", "decoder.py", "libc.so.6", "libgcc_s.so.1"} <= names
    assert any(name.startswith("ld-linux") for name in names)
    assert "sqlite3" not in "".join(found)
    whole = listed("--whole", BPFMATRIX_PYTHON=sys.executable)
    assert found.keys() <= whole.keys()
    assert any("sqlite3" in place for place in whole)
    assert not any("/test/" in place for place in whole)
    # Its name ends like that of a folder of tests.
    assert any("/unittest/mock.py" in place for place in whole)


def test_sources_are_compiled_once_for_the_flags_of_the_guests_python(tmp_path: Path) -> None:
    modules, compiled = tmp_path / "modules", tmp_path / "compiled"
    modules.mkdir()
    (modules / "new.py").write_text("assert __debug__\n")
    words = [f"--python={sys.executable}", f"--compiled={compiled}", f"--path={modules}"]
    # The module is imported for this.
    plain = listed(*words, "new")["site/new.pyc"]
    optimized = run(*words, "--optimize=1", "new").stdout
    assert f"site/new.pyc\t{compiled}" in optimized
    assert plain not in optimized
    before = Path(plain).stat().st_ino
    assert listed(*words, "new")["site/new.pyc"] == plain
    assert Path(plain).stat().st_ino == before


def test_a_virtual_environment_stands_for_its_installation(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    inside = tmp_path / "env/bin/python"
    choice = json.loads(run("--choose", f"--python={inside}").stdout)
    assert choice["version"] == list(sys.version_info[:2])
    assert choice["packages"] == [str(inside)]
    assert Path(choice["python"]).resolve() == choice_of(sys.executable)


def choice_of(python: str) -> Path:
    return Path(json.loads(run("--choose", f"--python={python}").stdout)["python"])


def test_nothing_is_listed_for_another_architecture() -> None:
    assert listed("json", BPFMATRIX_ARCH="s390x") == {}


SAYS = 'echo \'["{kind}", [{version}], {free}, "/usr/bin/python3"]\''


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (SAYS.format(kind="CPython", version="3, 7", free="false"), "is CPython 3.7"),
        (SAYS.format(kind="CPython", version="3, 15", free="false"), "is CPython 3.15"),
        (SAYS.format(kind="PyPy", version="3, 10", free="false"), "is PyPy 3.10, and the tracer"),
        (SAYS.format(kind="CPython", version="3, 13", free="true"), "a free-threaded build"),
        (SAYS.format(kind="", version="3, 11", free="false"), "without its standard library"),
        ("echo 3 8 cpython", "is not a Python interpreter, or can't run here"),
        ("exit 1", "is not a Python interpreter, or can't run here"),
    ],
)
def test_a_named_program_that_is_unusable_is_told_as_that(
    tmp_path: Path, said: str, refusal: str
) -> None:
    other = program(tmp_path / "python3", said)
    done = run("json", BPFMATRIX_PYTHON=str(other))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{other} ")
    assert refusal in done.stderr
    assert "Name an interpreter of CPython 3.8 to 3.14" in done.stderr


def test_what_is_no_program_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    cut_off = tmp_path / "cut off"
    cut_off.write_bytes(b"\x7fELF\x02\x01\x01")
    cut_off.chmod(0o755)
    for path, refusal in (
        (cut_off, "is not a Python interpreter, or can't run here"),
        (tmp_path / "missing", "there is no such interpreter"),
        (tmp_path, "is a folder"),
        (tmp_path / "text", "can't be executed"),
    ):
        done = run("json", f"--python={path}")
        assert done.returncode == 1
        assert refusal in done.stderr


def test_a_program_of_another_architecture_is_told_as_that(tmp_path: Path) -> None:
    found = Path(shutil.which("true") or "").resolve()
    changed = bytearray(found.read_bytes())
    changed[18] = 22  # e_machine of s390x
    other = tmp_path / "python3"
    other.write_bytes(changed)
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    done = run("json", f"--python={other}")
    assert f"is a program for s390x, and the guest is {platform.machine()}" in done.stderr


def test_the_advice_names_no_interpreter_of_another_architecture() -> None:
    done = run("json", f"--python={sys.executable}", BPFMATRIX_ARCH="s390x")
    assert "Name an interpreter of CPython 3.8 to 3.14 for s390x that runs on" in done.stderr


def test_a_wrapper_script_stands_for_the_interpreter_that_it_starts(tmp_path: Path) -> None:
    wrapper = program(tmp_path / "python3", f'exec {sys.executable} "$@"')
    assert choice_of(str(wrapper)) == choice_of(sys.executable)


def test_the_tracer_has_the_versions_that_are_listed() -> None:
    # The tables of offsets decide, and `{3, 10}: ` is a key of one of them.
    text = (REPOSITORY / "support/internal/pytrace/offsets.go").read_text()
    assert all(f"{{{major}, {minor}}}: " in text for major, minor in SUPPORTED)
    assert "{3, 7}" not in text
    assert "{3, 15}" not in text
