"""Modules of the guest: those that it loads, and drivers that must be built in."""

import dataclasses
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.guest.modules import loadable, require_built_in
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.image import KernelImage
from tests.kernels import synthetic
from tests.kernels.test_store import add

DRIVERS = b"\0virtio_blk\0virtio_console\0"


def without_modules(cache: Cache, code: bytes, config: str | None = None) -> KernelImage:
    image = add(cache, synthetic.bzimage())
    boot = image.folder / "vmlinux"
    boot.write_bytes(code)
    if config is not None:
        (image.folder / "config").write_text(config)
    else:
        (image.folder / "config").unlink(missing_ok=True)
    return dataclasses.replace(image, modules=None, boot=boot)


@pytest.mark.parametrize(
    ("code", "config", "missing"),
    [
        (DRIVERS, None, ""),
        (b"\0virtio_console\0", None, "virtio_blk"),
        (b"\0virtio_blk\0virtio_console.x\0", None, "virtio_console"),
        (synthetic.bzimage(), None, ""),  # compressed: it can't be told
        (b"", "CONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_CONSOLE=y\n", ""),
        (DRIVERS, "CONFIG_VIRTIO_BLK=m\nCONFIG_VIRTIO_CONSOLE=y\n", "virtio_blk"),
        (DRIVERS, "CONFIG_VIRTIO_BLK=y\n# CONFIG_VIRTIO_CONSOLE is not set\n", "virtio_console"),
    ],
)
def test_a_kernel_that_came_without_modules_must_have_its_drivers_built_in(
    cache: Cache, code: bytes, config: str | None, missing: str
) -> None:
    image = without_modules(cache, code, config)
    if not missing:
        require_built_in(image)
        return
    with pytest.raises(BpfmatrixError) as caught:
        require_built_in(image)
    assert caught.value.what.endswith(f"has no {missing} built in, and came without modules")
    assert f"lib/modules/{image.release}" in caught.value.advice


def test_what_is_built_in_is_not_loaded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    image = without_modules(cache, DRIVERS)
    assert loadable(image, ("dummy",)) == ()
    lists = {
        "modules.dep": b"kernel/drivers/net/dummy.ko:\nkernel/a/b-c.ko.xz: kernel/d.ko\n",
        "modules.builtin": b"kernel/fs/ext4.ko\n",
    }
    monkeypatch.setattr(KernelImage, "read_modules", lambda _, names: lists)
    image = dataclasses.replace(image, modules=Path("lib/modules/x"))
    assert loadable(image, ("dummy", "b-c", "ext4", "none")) == ("dummy", "b_c")
