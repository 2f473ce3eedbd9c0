"""loader-aya: what its build needs, its own tests, and the executable; without cargo, skipped."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from bpfmatrix.errors import BuildError, ToolMissingError
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload.loaders import aya_loader
from tests.tool import REPOSITORY

pytestmark = [pytest.mark.aya, pytest.mark.integration]

HERE = os.uname().machine

needs_cargo = pytest.mark.skipif(shutil.which("cargo") is None, reason="there is no cargo")


def executable(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is alone in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    tools.find.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def forget_tools() -> None:
    tools.find.cache_clear()


def test_without_cargo_it_is_named(only: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError) as caught:
        aya_loader.build(HERE, Cache(tmp_path / "cache"), tmp_path / "made")
    assert caught.value.what == "cargo is not installed"


@pytest.mark.parametrize("version", ["rustc 1.85.1 (Debian)", "rustc 0.99.0", "something else"])
def test_a_compiler_that_is_too_old_is_named(only: Path, tmp_path: Path, version: str) -> None:
    executable(only, "cargo", "exit 1")
    executable(only, "rustc", f"echo '{version}'")
    with pytest.raises(ToolMissingError) as caught:
        aya_loader.build(HERE, Cache(tmp_path / "cache"), tmp_path / "made")
    assert caught.value.what == f"{version} is too old for loader-aya"
    assert "Rust 1.95 or newer" in caught.value.advice


def test_an_architecture_for_which_it_is_not_written_is_named(only: Path, tmp_path: Path) -> None:
    executable(only, "cargo", "exit 1")
    executable(only, "rustc", 'echo "rustc 2.0.0"')
    with pytest.raises(BuildError) as caught:
        aya_loader.build("s390x", Cache(tmp_path / "cache"), tmp_path / "made")
    assert caught.value.what.startswith("loader-aya is for x86_64 and aarch64 only")
    assert "on s390x" in caught.value.advice


def test_a_compiler_without_the_library_of_an_architecture_is_told(
    only: Path, tmp_path: Path
) -> None:
    executable(only, "cargo", "exit 1")
    executable(
        only, "rustc", 'case $1 in --version) echo "rustc 2.0.0" ;; *) echo /nowhere ;; esac'
    )
    with pytest.raises(ToolMissingError) as caught:
        aya_loader.build("aarch64", Cache(tmp_path / "cache"), tmp_path / "made")
    assert caught.value.what.endswith("has no standard library for aarch64-unknown-linux-gnu")
    assert "rustup target add aarch64-unknown-linux-gnu" in caught.value.advice
    assert "libstd-rust-dev:arm64" in caught.value.advice


@needs_cargo
def test_the_key_is_that_of_the_sources_and_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = aya_loader.key("x86_64")
    assert aya_loader.key("x86_64") == first
    assert aya_loader.key("aarch64") != first
    sources = tmp_path / "aya"
    shutil.copytree(aya_loader.SOURCES, sources, ignore=shutil.ignore_patterns("target"))
    monkeypatch.setattr(aya_loader, "SOURCES", sources)
    assert aya_loader.key("x86_64") == first
    (sources / "src/names.rs").write_text("// nothing\n")
    assert aya_loader.key("x86_64") != first


@needs_cargo
@pytest.mark.integration
def test_its_own_tests_pass() -> None:
    command = ["cargo", "test", "--quiet", "--locked", "--ignore-rust-version"]
    done = subprocess.run(
        command, cwd=aya_loader.SOURCES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test result: ok" in done.stdout


@needs_cargo
@pytest.mark.integration
def test_it_is_static_and_names_no_path_of_this_machine(tmp_path: Path) -> None:
    loader = tmp_path / "loader-aya"
    aya_loader.build(HERE, Cache.default(), loader)
    with loader.open("rb") as file:
        elf = ELFFile(file)
        assert not any(segment["p_type"] == "PT_INTERP" for segment in elf.iter_segments())
        assert elf.get_section_by_name(".symtab") is None
    content = loader.read_bytes()
    assert len(content) < 4 << 20
    for path in (Cache.default().root, REPOSITORY, Path.home()):
        assert str(path).encode() not in content
    replies = subprocess.run(
        ["/bin/sh", "-c", f"exec 3>&1; exec {loader}"],
        input='{"request": "start", "objects": []}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    assert replies.stdout == '{"loader":"aya","version":"0.16.0","done":true}\n'


@needs_cargo
@pytest.mark.integration
def test_what_cargo_says_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "aya"
    shutil.copytree(aya_loader.SOURCES, sources, ignore=shutil.ignore_patterns("target"))
    (sources / "Cargo.lock").write_text("version = 4\n")
    monkeypatch.setattr(aya_loader, "SOURCES", sources)
    with pytest.raises(BuildError) as caught:
        aya_loader.build(HERE, Cache.default(), tmp_path / "made")
    assert caught.value.what.startswith("cargo could not build loader-aya:")
    assert "--locked" in caught.value.what
