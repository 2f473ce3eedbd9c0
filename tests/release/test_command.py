"""`python -m release`: what it says of a folder of distributions, and the files that it writes."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from release.__main__ import distribution_problems, sdist_problems

from tests.tool import REPOSITORY


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A folder with distributions of version 1.2.3, without content."""
    for name in ("bpfmatrix", "bytecode_lines"):
        (tmp_path / f"{name}-1.2.3.tar.gz").write_bytes(b"")
        with zipfile.ZipFile(tmp_path / f"{name}-1.2.3-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
    return tmp_path


def test_distributions_of_the_tag_are_good(dist: Path) -> None:
    assert list(distribution_problems(dist, "1.2.3")) == []
    assert list(distribution_problems(dist, None)) == []


def test_those_of_another_version_are_not(dist: Path) -> None:
    [problem] = distribution_problems(dist, "1.2.4")
    assert problem.endswith("and not what the tag v1.2.4 makes")


def test_a_wheel_without_all_programs_is_not_released(dist: Path) -> None:
    with zipfile.ZipFile(dist / "bpfmatrix-1.2.3-py3-none-any.whl", "a") as wheel:
        wheel.writestr("bpfmatrix/loader/left-out", "BPFMATRIX_WHEEL_LOADERS=libbpf\n")
    assert list(distribution_problems(dist, None)) == []
    assert list(distribution_problems(dist, "1.2.3")) == [
        "the wheel was built with BPFMATRIX_WHEEL_LOADERS=libbpf"
    ]


def test_a_folder_with_more_or_less_is_named(dist: Path) -> None:
    (dist / "bpfmatrix-1.2.2.tar.gz").write_bytes(b"")
    [problem] = distribution_problems(dist, "1.2.3")
    assert "bpfmatrix-1.2.2.tar.gz" in problem
    (dist / "bpfmatrix-1.2.2.tar.gz").unlink()
    (dist / "bytecode_lines-1.2.3.tar.gz").unlink()
    [problem] = distribution_problems(dist, "1.2.3")
    assert "one wheel and one sdist of each of bpfmatrix, bytecode_lines: " in problem


def release(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "release", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_checksums_are_those_of_sha256sum(dist: Path) -> None:
    assert release("checksums", dist).returncode == 0
    again = release("checksums", dist)
    assert again.stdout == (dist / "SHA256SUMS").read_text()
    assert len(again.stdout.splitlines()) == 4
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, check=True)


def test_faults_end_with_status_1(dist: Path) -> None:
    done = release("check", "--tag", "v99.0", dist)
    assert done.returncode == 1
    assert "error: CHANGELOG.md: the newest section of a release is " in done.stderr
    assert release("check", "--tag", "99.0").returncode == 2
    done = release("check", "--tag", "v1.0.0-rc1")
    assert done.returncode == 2
    assert "'v1.0.0-rc1' is not spelled as the version: name it v1.0.0rc1" in done.stderr
    assert "'soon' of 'vsoon' is no version" in release("check", "--tag", "vsoon").stderr
    done = release("notes", "v99.0")
    assert (done.returncode, done.stderr) == (1, "error: CHANGELOG.md has no section [99.0]\n")


def test_a_tag_is_of_a_final_version_or_not() -> None:
    for tag, kind in {"v1.0.0": "final", "v1.0.0rc1": "pre-release"}.items():
        assert release("tag", tag).stdout == f"{kind}\n"


def test_an_sdist_has_the_files_of_git_and_no_others(tmp_path: Path) -> None:
    sdist = tmp_path / "bpfmatrix-1.2.3.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in ("PKG-INFO", "README.md", "docs/examples/go/.bpfmatrix/results/6.1.json"):
            archive.addfile(tarfile.TarInfo(f"bpfmatrix-1.2.3/{name}"))
    assert list(sdist_problems(sdist, {"README.md", "LICENSE"})) == [
        "bpfmatrix-1.2.3.tar.gz has files that are not in git: "
        "docs/examples/go/.bpfmatrix/results/6.1.json",
        "bpfmatrix-1.2.3.tar.gz lacks files of git: LICENSE",
    ]
    [problem] = sdist_problems(
        sdist,
        {
            "README.md",
            *(f"{letter}.py" for letter in "abcdefghijkl"),
            "docs/examples/go/.bpfmatrix/results/6.1.json",
        },
    )
    assert problem.endswith("i.py, j.py, and 2 more")
