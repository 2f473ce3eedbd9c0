"""The kernel in an image: which files are taken, and which kernel it is."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.kernels.oci import image_kernel
from bpfmatrix.kernels.oci.image_kernel import find_kernel, unpack
from bpfmatrix.oci.layers import ImageFolder
from tests.oci.registry import Descriptor, Entry, layer, special, stored
from tests.oci.registry import files_of as files

MODULE = "lib/modules/6.1.0/kernel/a.ko"


def merged(folder: Path, *parts: Sequence[Entry] | Descriptor) -> ImageFolder:
    """Write layers to files, and unpack the kernel in them."""
    paths = stored(folder / "layers", parts)
    (folder / "files").mkdir()
    return unpack(paths, folder / "files")


@pytest.mark.parametrize("packed", ["gzip", "zstd", "plain"])
def test_only_a_kernels_parts_are_taken(tmp_path: Path, packed: str) -> None:
    entries: list[Entry] = [
        ("./boot/vmlinuz", b"kernel"),
        ("boot/config-6.1.0", b"config"),
        (MODULE, b"module"),
        ("usr/lib/modules/6.1.0/b.ko", b"other"),
        ("data/kernels/6.1/boot/vmlinuz-6.1.0", b"lvh"),
        ("etc/passwd", b"root"),
        ("boot/grub/grub.cfg", b"grub"),
        special("boot/vmlinuz-device", tarfile.CHRTYPE),
    ]
    found = files(merged(tmp_path, layer(entries, packed)))
    assert found == {
        "boot/vmlinuz": b"kernel",
        "boot/config-6.1.0": b"config",
        MODULE: b"module",
        "usr/lib/modules/6.1.0/b.ko": b"other",
        "data/kernels/6.1/boot/vmlinuz-6.1.0": b"lvh",
    }
    assert len(list((tmp_path / "files").iterdir())) == 5


def test_links_out_of_the_image_lead_to_its_root(tmp_path: Path) -> None:
    tree = merged(
        tmp_path,
        [special("boot", tarfile.SYMTYPE, "../../../usr/lib"), ("boot/vmlinuz", b"elsewhere")],
    )
    with pytest.raises(KernelUnavailableError, match="there is no kernel in the image"):
        find_kernel(tree, "6.1")
    assert not list((tmp_path / "files").iterdir())


def test_a_hard_link_to_what_was_not_taken(tmp_path: Path) -> None:
    entries: list[Entry] = [
        ("objects/1", b"kernel"),
        special("boot/vmlinuz", tarfile.LNKTYPE, "objects/1"),
    ]
    with pytest.raises(BpfmatrixError, match="boot/vmlinuz is a hard link to objects/1, which is"):
        merged(tmp_path, entries)


def test_links_within_the_image(tmp_path: Path) -> None:
    tree = merged(
        tmp_path / "0",
        [
            ("boot/vmlinuz-6.1.0", b"kernel"),
            special("boot/vmlinuz", tarfile.SYMTYPE, "vmlinuz-6.1.0"),
            special("lib", tarfile.SYMTYPE, "usr/lib"),
            ("usr/lib/modules/6.1.0/a.ko", b"a"),
            special("usr/lib/modules/6.1.0/b.ko", tarfile.LNKTYPE, "usr/lib/modules/6.1.0/a.ko"),
        ],
    )
    kernel = find_kernel(tree, "6.1")
    assert kernel.vmlinuz.read_bytes() == b"kernel"
    assert {name: path.read_bytes() for name, path in kernel.modules("6.1.0").items()} == {
        "a.ko": b"a",
        "b.ko": b"a",
    }
    # A folder of a later layer takes the place of a link.
    tree = merged(
        tmp_path / "1",
        [special("boot", tarfile.SYMTYPE, "/etc")],
        [special("boot", tarfile.DIRTYPE), ("boot/vmlinuz", b"kernel")],
    )
    assert find_kernel(tree, "6.1").vmlinuz.read_bytes() == b"kernel"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "vmlinuz", "x/y"])
def test_a_link_that_leads_nowhere_is_no_kernel(tmp_path: Path, target: str) -> None:
    tree = merged(tmp_path, [special("boot/vmlinuz", tarfile.SYMTYPE, target)])
    with pytest.raises(KernelUnavailableError, match="there is no kernel in the image"):
        find_kernel(tree, "6.1")


def test_which_kernel(tmp_path: Path) -> None:
    both: list[Entry] = [("boot/vmlinux", b"with symbols"), ("boot/vmlinuz", b"kernel")]
    assert find_kernel(merged(tmp_path / "1", both), "x").name == "boot/vmlinuz"
    bare: list[Entry] = [("boot/vmlinux", b"ELF")]
    assert find_kernel(merged(tmp_path / "2", bare), "x").name == "boot/vmlinux"
    lvh: list[Entry] = [
        ("data/kernels/6.6/boot/vmlinuz-6.6.1", b"6.6"),
        ("data/kernels/6.6/boot/config-6.6.1", b"C"),
        ("data/kernels/6.6/lib/modules/6.6.1/a.ko", b"a"),
    ]
    kernel = find_kernel(merged(tmp_path / "3", lvh), "6.6")
    assert kernel.config is not None
    assert kernel.config.read_bytes() == b"C"
    assert list(kernel.modules("6.6.1")) == ["a.ko"]
    assert kernel.modules("6.6.2") == {}
    more = merged(tmp_path / "4", lvh, [("data/kernels/6.1/boot/vmlinuz-6.1.9", b"6.1")])
    assert find_kernel(more, "6.1").vmlinuz.read_bytes() == b"6.1"
    with pytest.raises(KernelUnavailableError, match=r"several kernels .*6\.1\.9, data.*6\.6\.1"):
        find_kernel(more, "5.4")


def test_an_endless_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_kernel, "LIMIT_BYTES", 1000)
    with pytest.raises(BpfmatrixError, match="are larger than"):
        merged(tmp_path, [("boot/vmlinuz", b"x" * 600)], [("boot/vmlinuz", b"x" * 600)])
