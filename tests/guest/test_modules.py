"""What is told of a kernel's modules without a guest."""

from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.guest.modules import has_module, loadable, require_built_in
from bpfmatrix.kernels.image import KernelImage, Provenance
from tests.kernels import synthetic


def image(folder: Path, arch: str, boot: bytes, modules: Path | None = None) -> KernelImage:
    """Return a kernel whose source gave no configuration."""
    (folder / "vmlinuz").write_bytes(boot)
    return KernelImage(
        arch=arch,
        release="6.12.0",
        version="6.12",
        digest="sha256:0",
        boot=folder / "vmlinuz",
        pvh=False,
        vmlinuz=folder / "vmlinuz",
        modules=modules,
        provenance=Provenance("here", ()),
    )


@pytest.mark.parametrize(
    ("arch", "boot"), [("x86_64", synthetic.bzimage()), ("s390x", synthetic.s390_bzimage())]
)
def test_a_compressed_kernel_may_have_each_driver(tmp_path: Path, arch: str, boot: bytes) -> None:
    require_built_in(image(tmp_path, arch, boot))
    assert has_module(image(tmp_path, arch, boot), "9p")


def test_a_kernel_that_can_be_searched_is(tmp_path: Path) -> None:
    with pytest.raises(BpfmatrixError, match="has no virtio_blk built in"):
        require_built_in(image(tmp_path, "aarch64", synthetic.arm64_image()))


def test_no_list_is_read_for_no_module(tmp_path: Path) -> None:
    # These lists do not exist.
    assert loadable(image(tmp_path, "x86_64", b"", tmp_path / "lib/modules/6.12.0"), ()) == ()
