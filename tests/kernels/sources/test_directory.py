"""The directory source: which file of a folder is the kernel, and what is checked of it."""

import gzip
import lzma
import os
import shutil
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.kernels_yaml import load
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host.cache import Cache
from tests.kernels import synthetic
from tests.kernels.image_folders import declared, put, put_module


@pytest.mark.parametrize(
    "name",
    [
        "5.4.276/vmlinuz",
        "5.4.276/bzImage",
        "5.4.276/vmlinuz-5.4.276",
        "linux-5.4.276.bz",
        "vmlinuz-5.4.276-generic",
        "vmlinuz",
        "bzImage",
    ],
)
def test_layouts(cache: Cache, root: Path, name: str) -> None:
    release = "5.4.276-generic" if name.endswith("generic") else "5.4.276"
    file = put(root / "images" / name, release)
    put_module(file.parent, release, "a.ko.xz", lzma.compress(synthetic.module()))
    put_module(file.parent, "5.4.277")
    (file.parent / "lib/modules" / release / "build").symlink_to("/usr/src")
    image, cached = kernels.provide(declared(root, "5.4.276"), cache)
    assert not cached
    assert (image.release, image.version, image.pvh) == (release, "5.4.276", True)
    assert image.provenance.source == f"directory images/{name}"
    assert f"sha256:{image.provenance.packages[0].sha256}" == image.digest
    assert f"directory images/{name}" in image.description
    assert image.modules is not None
    assert image.read_modules(["kernel/a.ko"]) == {"kernel/a.ko": synthetic.module()}
    assert (image.modules / "modules.dep").read_text() == "kernel/a.ko:\n"
    assert len(list((image.folder / "lib/modules").iterdir())) == 1
    assert kernels.provide(declared(root, "5.4.276"), cache) == (image, True)
    assert kernels.cached(declared(root, "5.4.276"), cache) == image
    assert not list((cache.root / "tmp").iterdir())


def test_other_formats(cache: Cache, root: Path) -> None:
    arm = synthetic.arm64_image("6.1.5")
    elf = synthetic.vmlinux(text=b"Linux version 6.1.5 (a@b) #1\n")
    put(root / "images/1/Image", "", arm)
    put(root / "images/2/Image.gz", "", gzip.compress(arm))
    put(root / "images/3/vmlinux", "", elf)
    for id, arch in (("1", "aarch64"), ("2", "aarch64"), ("3", "x86_64")):
        image, _ = kernels.provide(declared(root, id, arch=arch), cache)
        assert (image.arch, image.release, image.modules) == (arch, "6.1.5", None)
        assert image.boot.read_bytes() == (elf if id == "3" else arm)


def test_a_single_file_and_what_lies_beside_it(cache: Cache, root: Path) -> None:
    # As in an installed system: /boot/vmlinuz-X, /boot/config-X, /lib/modules/X.
    put(root / "system/boot/vmlinuz-6.1.5", "6.1.5")
    put(root / "system/boot/config-6.1.5", "", b"CONFIG_BPF=y\n")
    put_module(root / "system", "6.1.5")
    image, _ = kernels.provide(declared(root, "mine", "system/boot/vmlinuz-6.1.5"), cache)
    assert image.modules is not None
    assert image.config is not None
    assert image.config.read_text() == "CONFIG_BPF=y\n"


def test_a_series_is_the_newest_that_lies_there(cache: Cache, root: Path) -> None:
    for release in ("6.1.9", "6.1.10", "6.12.1", "6.1.9-rc1"):
        put(root / "images" / f"vmlinuz-{release}", release)
    assert kernels.provide(declared(root, "6.1"), cache)[0].release == "6.1.10"
    assert kernels.provide(declared(root, "6.12"), cache)[0].release == "6.12.1"
    with pytest.raises(
        KernelUnavailableError, match=r"^6\.2: there is no kernel for it in .*images"
    ):
        kernels.provide(declared(root, "6.2"), cache)
    with pytest.raises(KernelUnavailableError, match=r"^6\.2: there is no .*nowhere"):
        kernels.provide(declared(root, "6.2", "nowhere"), cache)
    assert kernels.cached(declared(root, "6.2", "nowhere"), cache) is None


@pytest.mark.parametrize(
    ("id", "release", "fits"),
    [
        ("5.4.276", "5.4.276", True),
        ("5.4.276", "5.4.276-custom", True),
        ("5.4.276", "5.4.27", False),
        ("5.4.27", "5.4.276", False),
        ("6.1", "6.1.192", True),
        ("6.1", "6.12.1", False),
        ("6.1-debug", "6.1.3", True),
        ("mine", "6.1.3", True),
        ("v6", "5.4.1", True),
    ],
)
def test_the_release_must_be_the_ids(
    cache: Cache, root: Path, id: str, release: str, fits: bool
) -> None:
    put(root / "images" / id / "vmlinuz", release)
    if fits:
        assert kernels.provide(declared(root, id), cache)[0].release == release
        return
    with pytest.raises(BpfmatrixError) as raised:
        kernels.provide(declared(root, id), cache)
    assert raised.value.what == f"{id}: images/{id}/vmlinuz is release {release}, and not {id}"
    assert not list(cache.root.glob("kernels/*/*"))


def test_debians_releases_do_not_say_the_version(cache: Cache, root: Path) -> None:
    data = bytearray(synthetic.bzimage(release="6.1.0-9-amd64"))
    text = b"6.1.0-9-amd64 (debian-kernel@example.org) #1 SMP Debian 6.1.192-2 (2026)\0"
    data[0x300 : 0x300 + len(text)] = text
    put(root / "images/6.1.192/vmlinuz", "", bytes(data))
    image, _ = kernels.provide(declared(root, "6.1.192"), cache)
    assert (image.version, image.release) == ("6.1.192", "6.1.0-9-amd64")


def test_what_is_no_kernel(cache: Cache, root: Path) -> None:
    put(root / "images/6.1/vmlinuz", "", b"#!/bin/sh\n")
    with pytest.raises(
        BpfmatrixError, match=r"^6\.1: images/6\.1/vmlinuz is not a kernel: it does not begin"
    ):
        kernels.provide(declared(root, "6.1"), cache)
    put(root / "images/6.1/vmlinuz", "6.1.2")
    with pytest.raises(BpfmatrixError, match=r"6\.1/vmlinuz is for x86_64, not for aarch64"):
        kernels.provide(declared(root, "6.1", arch="aarch64"), cache)
    put_module(root / "images/6.1", "6.1.2", "b.ko.xz", lzma.compress(b"x" * 999)[:30])
    with pytest.raises(BpfmatrixError, match=r"^6\.1: the module b\.ko\.xz can't be unpacked"):
        kernels.provide(declared(root, "6.1"), cache)
    assert not list(cache.root.glob("kernels/*/*"))


def test_an_exchanged_file_is_noticed(cache: Cache, root: Path) -> None:
    kernel = declared(root, "6.1")
    file = put(root / "images/6.1/vmlinuz", "6.1.1")
    put_module(root / "images/6.1", "6.1.1")
    first, _ = kernels.provide(kernel, cache)
    put(file, "6.1.2")
    shutil.move(root / "images/6.1/lib/modules/6.1.1", root / "images/6.1/lib/modules/6.1.2")
    assert kernels.cached(kernel, cache) is None
    second, cached = kernels.provide(kernel, cache)
    assert not cached
    assert (first.release, second.release) == ("6.1.1", "6.1.2")
    put_module(root / "images/6.1", "6.1.2", "b.ko")
    third, cached = kernels.provide(kernel, cache)
    assert not cached
    assert set(third.read_modules(["kernel/a.ko", "kernel/b.ko"])) == {"kernel/a.ko", "kernel/b.ko"}
    # Of the same size and time, but another file.
    put(file.with_name("new"), "6.1.3")
    info = file.stat()
    os.utime(file.with_name("new"), ns=(info.st_atime_ns, info.st_mtime_ns))
    file.with_name("new").replace(file)
    assert kernels.provide(kernel, cache)[0].release == "6.1.3"
    assert [item.name.split("/")[1][:5] for item in kernels.prune(cache)] == [
        "6.1.1",
        "6.1.2",
        "6.1.2",
    ]
    # And a damaged copy is made again.
    image, _ = kernels.provide(kernel, cache)
    os.truncate(image.boot, 5)
    again, cached = kernels.provide(kernel, cache)
    assert not cached
    again.verify()
    assert kernels.repair(kernel, cache) == again


def test_the_same_kernel_from_elsewhere_says_so(cache: Cache, root: Path, tmp_path: Path) -> None:
    put(root / "images/6.1/vmlinuz", "6.1.1")
    put(root / "more/6.1/vmlinuz", "6.1.1")
    one, _ = kernels.provide(declared(root, "6.1"), cache)
    two, _ = kernels.provide(declared(root, "6.1", "more"), cache)
    assert one.digest == two.digest
    one = kernels.provide(declared(root, "6.1"), cache)[0]
    assert one.provenance.source == "directory images/6.1/vmlinuz"
    assert two.provenance.source == "directory more/6.1/vmlinuz"
    (tmp_path / "checkout").mkdir()
    put(tmp_path / "checkout/images/6.1/vmlinuz", "6.1.2")
    other = declared(tmp_path / "checkout", "6.1")  # the same words, in another checkout
    assert kernels.provide(other, cache)[0].release == "6.1.2"
    assert kernels.provide(declared(root, "6.1"), cache)[0].release == "6.1.1"


def test_kernels_yaml_names_a_folder(cache: Cache, root: Path) -> None:
    put(root / "images/6.1/vmlinuz", "6.1.1")
    (root / "kernels.yaml").write_text('kernels: {"6.1": {source: {directory: images}}}\n')
    kernel = load(root / "kernels.yaml").kernel("6.1")
    assert kernels.provide(kernel, cache)[0].release == "6.1.1"
