"""The options --rootfs and --share."""

import os
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.session.host_files import HostFilesPlan, plan
from bpfmatrix.virtiofs import shares
from bpfmatrix.virtiofs.shares import HostFiles, SharedFolder
from tests.kernels import synthetic


def test_shares_are_absolute_and_the_outer_ones_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outer/inner:rw").mkdir(parents=True)
    (tmp_path / "link").symlink_to("outer")
    monkeypatch.chdir(tmp_path)
    found = shares.parse_options(None, ["link/inner:rw:ro", "outer:rw"])
    outer, inner = SharedFolder(tmp_path / "outer", True), SharedFolder(tmp_path / "outer/inner:rw")
    assert found == HostFiles(None, (outer, inner), tmp_path)
    assert shares.parse_options("host", []).is_host
    assert not shares.parse_options(None, [])
    assert shares.parse_options("outer", []).root == tmp_path / "outer"


@pytest.mark.parametrize(
    ("rootfs", "share", "words"),
    [
        ("missing", [], "--rootfs missing: no such folder"),
        ("file", [], "--rootfs file: not a folder"),
        ("empty", [], "--rootfs empty: the folder is empty"),
        (None, ["missing:rw"], "--share missing: no such folder"),
        (None, ["file"], "--share file: not a folder"),
        (None, ["loop"], "--share loop: "),
        (None, ["empty:rwx"], "--share empty:rwx: no such folder"),
        (None, ["a\0b"], "no such folder"),
        (None, ["empty", "./empty:rw"], "is shared already"),
        (None, ["/"], "--share /: the guest has its own /"),
        (None, ["/usr"], "--share /usr: the guest has its own /usr"),
        ("host", ["/proc/sys"], "--share /proc/sys: the guest has its own /proc/sys"),
        ("host", ["/run"], "--share /run: the guest has its own /run"),
    ],
)
def test_values_that_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rootfs: str | None,
    share: list[str],
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        shares.parse_options(rootfs, share)
    assert words in caught.value.what
    assert caught.value.advice


def test_usr_can_be_shared_with_a_root_of_the_hosts() -> None:
    assert shares.parse_options("host", ["/usr"]).shares == (SharedFolder(Path("/usr")),)


def test_secrets_are_not_passed_on() -> None:
    ours = {
        "PATH": "/home/me/bin:/usr/bin",
        "LC_ALL": "C",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PYTHONPATH": "a\nb",
    }
    host = shares.environment(HostFiles(Path("/")), ours)
    assert host == {"PATH": "/home/me/bin:/usr/bin:/usr/sbin:/sbin", "LC_ALL": "C"}
    tree = shares.environment(HostFiles(Path("/srv/tree")), ours)
    assert tree["PATH"].startswith("/usr/local/sbin:")
    assert tree["HOME"] == "/root"
    assert shares.environment(HostFiles(), ours) == {}


def image(tmp_path: Path, config: str) -> KernelImage:
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
def test_virtiofs_comes_before_9p(tmp_path: Path, config: str, transport: str) -> None:
    files = HostFiles(Path("/"), (SharedFolder(tmp_path, True),), tmp_path)
    found = plan(files, image(tmp_path, config), "6.1")
    assert {folder.transport for folder in found.folders} == {transport}
    assert [folder.writable for folder in found.folders] == [False, True]
    assert found.commands == (
        ("host_devices", transport, "2"),
        ("host_root", transport, "host0", str(tmp_path)),
        ("host_share", transport, "host1", "rw", str(tmp_path)),
    )
    assert found.description == f"/ as root; {tmp_path}, which can be written"
    assert plan(HostFiles(), image(tmp_path, ""), "6.1") == HostFilesPlan()


def test_a_kernel_without_modules_and_configuration_is_searched(tmp_path: Path) -> None:
    files, known = HostFiles(None, (SharedFolder(tmp_path),)), image(tmp_path, "")
    (tmp_path / "config").unlink()
    known.boot.write_bytes(b"\x7fELF...\0virtiofs\0...")
    found = plan(files, known, "6.1")
    # It is not known whether the kernel can hot-plug a device.
    assert (found.folders[0].transport, found.slots) == ("virtiofs", 0)
    known.boot.write_bytes(b"\x7fELF...\0virtio_fs_device\0...")
    with pytest.raises(BpfmatrixError, match="has neither"):
        plan(files, known, "6.1")
    # A compressed kernel can't be searched, and is tried.
    known.boot.write_bytes(synthetic.bzimage())
    assert plan(files, known, "6.1").folders


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("CONFIG_9P_FS=y\n" + OVERLAY, "has neither virtiofs nor 9p"),
        ("# CONFIG_VIRTIO_FS is not set\n" + OVERLAY, "has neither virtiofs nor 9p"),
        (VIRTIOFS, "has no overlayfs"),
    ],
)
def test_a_kernel_without_them(tmp_path: Path, config: str, words: str) -> None:
    with pytest.raises(BpfmatrixError, match=words) as caught:
        plan(HostFiles(Path("/")), image(tmp_path, config), "6.1")
    assert caught.value.advice
    # A share needs no overlay.
    if config == VIRTIOFS:
        assert plan(
            HostFiles(None, (SharedFolder(tmp_path),)), image(tmp_path, config), "6.1"
        ).folders
