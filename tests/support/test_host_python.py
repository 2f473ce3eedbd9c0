"""support/host_python.py, which lists the files of a Python that the guest needs."""

import runpy
import subprocess
import sys
from pathlib import Path

from tests.tool import REPOSITORY

SUPPORTED = runpy.run_path(str(REPOSITORY / "support/host_python.py"))["SUPPORTED"]


def listed(*words: str, **env: str) -> dict[str, str]:
    """Return what the script lists: paths of the host, by their places in the guest."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "support/host_python.py", *words],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


def test_python_is_listed_with_the_files_that_modules_need() -> None:
    found = listed("json", BPFMATRIX_PYTHON=sys.executable)
    if sys.version_info[:2] not in SUPPORTED:
        assert found == {}
        return
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


def test_nothing_is_listed_for_another_architecture_or_an_old_python(
    tmp_path: Path,
) -> None:
    assert listed("json", BPFMATRIX_ARCH="s390x") == {}
    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\necho 3 8 cpython /usr/bin/python3.8\n")
    other.chmod(0o755)
    assert listed("json", BPFMATRIX_PYTHON=str(other)) == {}
