"""How a kernel sees the host's files, by what it has built in."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.payload.repository import Repository
from bpfmatrix.rootfs.spec import parse
from bpfmatrix.session.host_files import HostFilesPlan, plan
from bpfmatrix.virtiofs.shares import HostFiles, SharedFolder
from tests.kernels import synthetic


def image(tmp_path: Path, config: str) -> KernelImage:
    """Return a kernel without modules that has this configuration."""
    (tmp_path / "config").write_text(config)
    return KernelImage(
        arch=os.uname().machine,
        release="6.1.0",
        version="6.1",
        digest="sha256:0",
        boot=tmp_path / "vmlinux",
        pvh=True,
        vmlinuz=tmp_path / "vmlinuz",
        modules=None,
        provenance=Provenance("here", ()),
    )


VIRTIOFS, OVERLAY = "CONFIG_VIRTIO_FS=y\n", "CONFIG_OVERLAY_FS=y\n"
NINE_P = "CONFIG_9P_FS=y\nCONFIG_NET_9P_VIRTIO=y\n"


@pytest.mark.parametrize(
    ("config", "transport"),
    [(VIRTIOFS + OVERLAY + NINE_P, "virtiofs"), (NINE_P + OVERLAY, "9p")],
)
def test_virtiofs_is_preferred_to_9p(tmp_path: Path, config: str, transport: str) -> None:
    files = HostFiles(Path("/"), (SharedFolder(tmp_path, True),), tmp_path)
    found = plan(files, None, image(tmp_path, config), "6.1")
    assert {folder.transport for folder in found.folders} == {transport}
    assert [folder.writable for folder in found.folders] == [False, True]
    assert found.commands == (
        ("host_devices", transport, "2"),
        ("host_root", transport, "host0"),
        ("host_share", transport, "host1", "rw", "/host/shared/host1"),
    )
    assert found.binds == (("/host/shared/host1", str(tmp_path)),)
    assert found.description == f"/ as root; {tmp_path}, which can be written"


def test_a_big_endian_guest_has_9p(tmp_path: Path) -> None:
    files, known = HostFiles(None, (SharedFolder(tmp_path),)), image(tmp_path, VIRTIOFS + NINE_P)
    [folder] = plan(files, None, replace(known, arch="s390x"), "6.12").folders
    assert folder.transport == "9p"
    (tmp_path / "config").write_text(VIRTIOFS)
    with pytest.raises(BpfmatrixError, match="has no 9p") as raised:
        plan(files, None, replace(known, arch="s390x"), "6.12")
    assert "CONFIG_9P_FS" in raised.value.advice


def test_without_host_files_nothing_is_needed(tmp_path: Path) -> None:
    assert plan(HostFiles(), None, image(tmp_path, ""), "6.1") == HostFilesPlan()


def test_a_kernel_without_modules_and_configuration_is_searched(tmp_path: Path) -> None:
    files, known = HostFiles(None, (SharedFolder(tmp_path),)), image(tmp_path, "")
    (tmp_path / "config").unlink()
    known.boot.write_bytes(b"\x7fELF...\0virtiofs\0...")
    found = plan(files, None, known, "6.1")
    # It is not known whether the kernel can hot-plug a device.
    assert (found.folders[0].transport, found.slots) == ("virtiofs", 0)
    known.boot.write_bytes(b"\x7fELF...\0virtio_fs_device\0...")
    with pytest.raises(BpfmatrixError, match="has neither"):
        plan(files, None, known, "6.1")
    # A compressed kernel can't be searched, and is tried.
    known.boot.write_bytes(synthetic.bzimage())
    assert plan(files, None, known, "6.1").folders


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("CONFIG_9P_FS=y\n" + OVERLAY, "has neither virtiofs nor 9p"),
        ("# CONFIG_VIRTIO_FS is not set\n" + OVERLAY, "has neither virtiofs nor 9p"),
        (VIRTIOFS, "has no overlayfs"),
    ],
)
def test_a_kernel_without_the_file_systems_is_refused(
    tmp_path: Path, config: str, words: str
) -> None:
    with pytest.raises(BpfmatrixError, match=words) as caught:
        plan(HostFiles(Path("/")), None, image(tmp_path, config), "6.1")
    assert caught.value.advice


def test_an_image_is_on_a_disk_and_no_folder_is_served(tmp_path: Path) -> None:
    spec = parse("oci:debian:12", "--rootfs")
    files, known = HostFiles(folder=tmp_path, image=spec), image(tmp_path, OVERLAY)
    assert plan(files, None, known, "6.1") == HostFilesPlan()
    repository = Repository(tmp_path, ("a",), "stamp")
    found = plan(files, repository, known, "6.1")
    assert found.commands == (("repository", "/host/repository"),)
    assert found.binds == (("/host/repository", str(tmp_path)),)
    assert found.folders == ()
    # A share is served, and is mounted in the root of the image.
    shared = HostFiles(None, (SharedFolder(tmp_path / "a"),), tmp_path, spec)
    found = plan(shared, None, image(tmp_path, OVERLAY + VIRTIOFS), "6.1")
    assert [call[0] for call in found.commands] == ["host_devices", "host_share"]
    assert found.binds == (("/host/shared/host1", str(tmp_path / "a")),)
    with pytest.raises(BpfmatrixError, match="has no overlayfs"):
        plan(files, None, image(tmp_path, VIRTIOFS), "6.1")


@pytest.mark.parametrize("root", [None, Path("/srv/root")])
def test_the_repository_is_at_its_path_below_the_shares(tmp_path: Path, root: Path | None) -> None:
    repository = Repository(tmp_path, ("a",), "stamp")
    files = HostFiles(root, (SharedFolder(tmp_path / "a"),))
    found = plan(files, repository, image(tmp_path, VIRTIOFS + OVERLAY), "6.1")
    calls = [(call[0], call[-1]) for call in found.commands if call[0] != "host_devices"]
    if root is None:
        assert calls == [("repository", str(tmp_path)), ("host_share", str(tmp_path / "a"))]
        assert found.binds == ()
    else:
        places = ["/host/repository", "/host/shared/host1"]
        assert calls[1:] == [("repository", places[0]), ("host_share", places[1])]
        assert found.binds == ((places[0], str(tmp_path)), (places[1], str(tmp_path / "a")))


def test_a_share_needs_no_overlay(tmp_path: Path) -> None:
    files = HostFiles(None, (SharedFolder(tmp_path),))
    assert plan(files, None, image(tmp_path, VIRTIOFS), "6.1").folders
