"""Damaged kernels in the cache, which are fetched again from a real archive on loopback."""

import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.errors import UnreachableError
from bpfmatrix.host import integrity
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of_open
from bpfmatrix.host.integrity import settle
from bpfmatrix.kernels.image import KernelImage
from tests.damage import DAMAGES, Notes, flip_bit_quietly
from tests.kernels.archive import Archive
from tests.kernels.conftest import apt_kernel

pytestmark = pytest.mark.integration

FILES = ("vmlinux", "config", "modules.json", "kernel.json")


def settled(image: KernelImage) -> None:
    for name in FILES:
        settle(image.folder / name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_image_is_fetched_again(
    cache: Cache, archive: Archive, name: str, harm: Callable[[Path], None]
) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    settled(image)
    assert kernels.provide(apt_kernel(), cache) == (image, True)
    harm(image.folder / name)
    notes = Notes()
    again, cached = kernels.provide(apt_kernel(), cache, notes)
    assert not cached
    again.verify()
    assert again.boot == image.boot  # so that a template of it stays in use
    [note] = notes.told
    assert note.startswith(f"6.1: the cached kernel is damaged ({name} ")
    assert note.endswith("; fetching it again")
    notes = Notes()
    assert kernels.provide(apt_kernel(), cache, notes) == (again, True)
    assert notes.told == []


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_image_that_can_not_be_fetched_is_one_error(
    cache: Cache, archive: Archive, harm: Callable[[Path], None]
) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    kernels.provide(apt_kernel(), cache)
    archive.stop()
    harm(image.boot)
    for _ in range(2):
        with pytest.raises(UnreachableError, match="the cached kernel is damaged \\(vmlinux"):
            kernels.provide(apt_kernel(), cache)


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_ref_is_resolved_anew(
    cache: Cache, archive: Archive, harm: Callable[[Path], None]
) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    [ref] = (cache.root / "refs").glob("*/*.json")
    harm(ref)
    notes, missing = Notes(), not ref.exists()
    again, _ = kernels.provide(apt_kernel(), cache, notes)
    assert again == image
    words = "6.1: the record of its release is damaged; resolving it again"
    assert notes.told == ([] if missing else [words])
    assert kernels.provide(apt_kernel(), cache) == (image, True)


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_memory_of_checks_only_costs_time(
    cache: Cache, archive: Archive, harm: Callable[[Path], None]
) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    settled(image)
    kernels.provide(apt_kernel(), cache)
    harm(image.folder / "checked.json")
    assert kernels.provide(apt_kernel(), cache) == (image, True)
    harm(image.folder / "checked.json")
    flip_bit_quietly(image.boot)
    assert not kernels.provide(apt_kernel(), cache)[1]


def test_an_intact_image_is_not_read(
    cache: Cache, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    settled(image)
    kernels.provide(apt_kernel(), cache)
    read: list[str] = []

    def checksum(file: FileIO) -> str:
        read.append(Path(str(file.name)).name)
        return sha256_of_open(file)

    monkeypatch.setattr(integrity, "sha256_of_open", checksum)
    kernels.provide(apt_kernel(), cache)
    assert read == []
    kernels.provide(apt_kernel(), cache, reread=True)
    assert "vmlinux" in read
    os.utime(image.boot)
    read.clear()
    kernels.provide(apt_kernel(), cache)
    assert read == ["vmlinux"]
