"""A bpffs of its own for each test, and marks that name the kernel a test needs."""

import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def release() -> tuple[int, int]:
    """Return the running kernel's version: its first two numbers."""
    first, second = platform.release().split(".")[:2]
    return int(first), int(second)


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A mounted BPF file system."""
    subprocess.run(["mount", "-t", "bpf", "bpf", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)
