"""The initramfs of a tiny kernel in the cache: made once, and made again if it is damaged."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.guest import busybox, initramfs, modules
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.integrity import record_of, settle
from bpfmatrix.kernels.image import KernelImage
from tests.damage import DAMAGES, Notes, flip_bit_quietly
from tests.kernels import synthetic
from tests.kernels.test_store import add

HERE = os.uname().machine


@pytest.fixture
def image(cache: Cache) -> KernelImage:
    return add(cache, synthetic.bzimage())


def stored(image: KernelImage, cache: Cache, notes: Notes) -> Path:
    return initramfs.stored(image, busybox.executable(HERE, cache), (), cache, notes)


@pytest.fixture(autouse=True)
def _no_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    # The tiny kernel has none of those that a machine needs.
    monkeypatch.setattr(modules, "entries", lambda *_: [])


@pytest.mark.parametrize("harm", DAMAGES)
@pytest.mark.parametrize("what", ["archive", "record", "name"])
def test_a_damaged_one_is_made_again(
    image: KernelImage, cache: Cache, harm: Callable[[Path], None], what: str
) -> None:
    notes = Notes()
    path = stored(image, cache, notes)
    assert path.stem == sha256_of(path)
    assert notes.told == []
    [name] = (cache.root / "initramfs").glob("*.json")
    harm({"archive": path, "record": record_of(path), "name": name}[what])
    if what != "archive":
        flip_bit_quietly(path)
    said = name.exists()
    assert stored(image, cache, notes) == path
    assert path.stem == sha256_of(path)
    assert len(notes.told) == (1 if said else 0)
    assert all(told.startswith("the initramfs ") for told in notes.told)
    assert all(told.endswith(" in the cache; making it again") for told in notes.told)
    notes.told.clear()
    assert stored(image, cache, notes) == path
    assert notes.told == []


def test_the_name_file_of_an_earlier_version_does_no_harm(image: KernelImage, cache: Cache) -> None:
    path = stored(image, cache, Notes())
    [name] = (cache.root / "initramfs").glob("*.json")
    name.with_suffix(".name").write_bytes(b"\xff\xfe")
    assert stored(image, cache, Notes()) == path


def test_an_intact_one_is_not_packed_again(
    image: KernelImage, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(image, cache, Notes())
    os.utime(record_of(path), (0, 0))
    monkeypatch.setattr(initramfs, "build", None)
    settle(path)
    before = path.stat()
    assert stored(image, cache, Notes()) == path
    assert path.stat() == before
    assert record_of(path).stat().st_mtime > 0  # it counts as used


def test_two_kernels_with_the_same_one_repair_it_for_both(image: KernelImage, cache: Cache) -> None:
    program = busybox.executable(HERE, cache)
    paths = {initramfs.stored(image, program, names, cache) for names in ((), ("a",))}
    [path] = paths
    flip_bit_quietly(path)
    notes = Notes()
    for names in ((), ("a",)):
        assert initramfs.stored(image, program, names, cache, notes) == path
    assert len(notes.told) == 1
    assert path.stem == sha256_of(path)
