"""What a suite in Python has: parameters, fixtures, classes, skips, expected failures, failures."""

import os
from pathlib import Path

import pytest

from .conftest import release


@pytest.mark.parametrize("file", ["btf/vmlinux", "debug/tracing"])
def test_the_kernel_has(file: str) -> None:
    assert Path("/sys/kernel", file).exists()


def test_a_folder_in_bpffs(bpffs: Path) -> None:
    (bpffs / "maps").mkdir()
    with pytest.raises(PermissionError):
        (bpffs / "file").write_text("bpffs has only maps, programs and links")


@pytest.mark.skipif(release() < (6, 9), reason="needs 6.9: BPF tokens")
def test_a_file_system_with_delegation(bpffs: Path) -> None:
    assert "delegate_cmds" in Path("/proc/kallsyms").read_text() or bpffs.is_mount()


class TestRoot:
    def test_is_root(self) -> None:
        assert os.getuid() == 0

    @pytest.mark.xfail(reason="root may read everything", strict=True)
    def test_can_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch(mode=0)
        with pytest.raises(PermissionError):
            (tmp_path / "file").read_text()


@pytest.fixture
def broken() -> None:
    raise RuntimeError("the fixture can't be set up")


def test_fails() -> None:
    print("a line of the test's output")
    assert release() == (2, 4), "this suite is for Linux 2.4"


def test_has_an_error(broken: None) -> None:
    pass
