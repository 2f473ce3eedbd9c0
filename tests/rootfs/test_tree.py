"""The ext4 image of a container image: read back with debugfs, and checked by e2fsck."""

import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import ext4
from bpfmatrix.oci.layers import merge
from bpfmatrix.rootfs.tree import write_ext4
from tests.oci.registry import Entry, special, stored

CAPABILITY = bytes.fromhex("0100000200200000" + "00000000" * 3)  # cap_net_raw+ep, version 2


def made(folder: Path, *layers: Sequence[Entry]) -> Path:
    """Make the ext4 image of layers."""
    paths = stored(folder / "layers", layers)
    for name in ("files", "disk"):
        (folder / name).mkdir()
    root = merge(paths, folder / "files", lambda _path: True, 1 << 20)
    target = folder / "image.ext4"
    write_ext4(root, folder / "disk", target, "the image")
    checked = subprocess.run(
        ["/sbin/e2fsck", "-fn", target], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return target


def debugfs(image: Path, request: str) -> str:
    done = subprocess.run(
        ["/sbin/debugfs", "-R", request, image], capture_output=True, text=True, check=True
    )
    return done.stdout


def facts(image: Path, path: str) -> tuple[str, int, int, int]:
    """Return the type, the permissions, the user and the group of a file."""
    said = debugfs(image, f'stat "{path}"')
    found = re.search(r"Type: (\S+) +Mode: +(\d+)", said)
    owner = re.search(r"User: +(\d+) +Group: +(\d+)", said)
    assert found, said
    assert owner, said
    return found[1], int(found[2], 8), int(owner[1]), int(owner[2])


def entry(name: str, data: bytes | None, **attributes: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
    for key, value in attributes.items():
        setattr(info, key, value)
    info.size = len(data or b"")
    return (info, data or b"")


def link(name: str, target: str, **attributes: object) -> Entry:
    info = special(name, tarfile.SYMTYPE, target)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def run_as_nobody(function: Callable[[], object]) -> None:
    """Call a function in a child process that has no privileges."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            function()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("privileged", [True, False])
def test_owners_modes_and_capabilities(tmp_path: Path, privileged: bool) -> None:
    xattr = {"SCHILY.xattr.security.capability": CAPABILITY.decode(errors="surrogateescape")}
    entries = [
        entry("./", None, mode=0o755, uid=7, gid=8),
        entry("tmp/", None, mode=0o1777),
        entry("root/", None, mode=0o700),
        entry("secret/", None, mode=0, uid=100000, gid=200000),
        entry("secret/file", b"x", mode=0, uid=65534, gid=65534),
        entry("bin/su", b"su", mode=0o4755),
        entry("bin/chage", b"chage", mode=0o2755, gid=42),
        entry("bin/ping", b"ping", mode=0o755, pax_headers=xattr),
        link("bin/link", "/bin/su", uid=33, gid=34),
        special("bin/hard", tarfile.LNKTYPE, "bin/su"),
        special("fifo", tarfile.FIFOTYPE),
        special("dev/null", tarfile.CHRTYPE),
    ]
    if privileged or os.getuid() != 0:
        check_image(made(tmp_path, entries), tmp_path)
        return
    # Not below tmp_path, whose folders only root can enter.
    with TemporaryDirectory(dir="/tmp") as name:
        os.chown(name, 65534, 65534)
        run_as_nobody(lambda: made(Path(name) / "image", entries))
        check_image(Path(name) / "image/image.ext4", tmp_path)


def check_image(image: Path, folder: Path) -> None:
    """Check the image of `test_owners_modes_and_capabilities`."""
    assert facts(image, "/") == ("directory", 0o755, 7, 8)
    assert facts(image, "/tmp") == ("directory", 0o1777, 0, 0)
    assert facts(image, "/root") == ("directory", 0o700, 0, 0)
    assert facts(image, "/secret") == ("directory", 0, 100000, 200000)
    assert facts(image, "/secret/file") == ("regular", 0, 65534, 65534)
    assert facts(image, "/bin") == ("directory", 0o755, 0, 0)
    assert facts(image, "/bin/su") == ("regular", 0o4755, 0, 0)
    assert facts(image, "/bin/chage") == ("regular", 0o2755, 0, 42)
    assert facts(image, "/bin/link") == ("symlink", 0o777, 33, 34)
    assert facts(image, "/fifo")[0] == "FIFO"
    assert not ext4.has(image, "/dev/null")
    assert not ext4.has(image, "/lost+found")
    inode = r"Inode: +(\d+)"
    of_hard = re.search(inode, debugfs(image, "stat /bin/hard"))
    of_su = re.search(inode, debugfs(image, "stat /bin/su"))
    assert of_hard
    assert of_su
    assert of_hard[1] == of_su[1]
    assert "Links: 2" in debugfs(image, "stat /bin/su")
    assert debugfs(image, "ea_list /bin/su").strip() == ""
    copy = folder / "capability"
    debugfs(image, f"ea_get -f {copy} /bin/ping security.capability")
    assert copy.read_bytes() == CAPABILITY


def test_contents_times_and_links(tmp_path: Path) -> None:
    image = made(
        tmp_path,
        [
            entry("etc/passwd", b"root:x:0:0\n", mtime=1_600_000_000),
            entry("etc/", None, mtime=1_500_000_000),
            entry("old", b"", mtime=-5),
            entry("far", b"", mtime=1 << 60),
            link("a", "/etc/../../../etc"),
            link("b", "c" * 200),
            entry("empty", b""),
        ],
    )
    assert debugfs(image, "cat /etc/passwd") == "root:x:0:0\n"
    for path, seconds in (("/etc/passwd", "5f5e1000"), ("/etc", "59682f00"), ("/old", "00000000")):
        assert re.search(
            rf"mtime: 0x0*{seconds.lstrip('0') or '0'}\b", debugfs(image, f"stat {path}")
        )
    assert "7fffffff" in debugfs(image, "stat /far")
    assert 'Fast link dest: "/etc/../../../etc"' in debugfs(image, "stat /a")
    # Links in a path are followed within the image, but not the last one, as by lstat(2).
    assert ext4.has(image, "/a/passwd")
    assert ext4.has(image, "/a")
    assert ext4.has(image, "b")
    assert not ext4.has(image, "/b/x")
    assert not ext4.has(image, "/a/shadow")
    assert not ext4.has(image, "/a\n/passwd")


def test_odd_names(tmp_path: Path) -> None:
    names = ['a "b" c', "-x", "#", "<2>", "caf\udce9", "ü", "tab\there", "back\\slash", "'", '"']
    image = made(tmp_path, [entry(name, b"x", mode=0o640, uid=5, gid=6) for name in names])
    for name in names:
        assert ext4.has(image, f"/{name}"), name
    listed = subprocess.run(
        ["/sbin/debugfs", "-R", "ls -p /", image], capture_output=True, check=True
    ).stdout.decode(errors="surrogateescape")
    rows = [line.split("/") for line in listed.splitlines() if line.startswith("/")]
    found = {row[5]: row[2:5] for row in rows if len(row) > 5 and row[5] not in (".", "..")}
    assert found == {name: ["100640", "5", "6"] for name in names}


def test_a_line_break_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BpfmatrixError, match="the image has a file with a line break in its name"):
        made(tmp_path, [("a/b\nsif / mode 0", b"")])


def test_a_folder_in_the_place_of_lost_and_found(tmp_path: Path) -> None:
    image = made(tmp_path, [entry("lost+found/", None, mode=0o755), ("lost+found/a", b"a")])
    assert debugfs(image, "cat /lost+found/a") == "a"


@pytest.mark.parametrize(
    ("content", "inodes", "size"),
    [(0, 1, 4), (3 << 30, 9000, 4), (4 << 30, 9000, 8), (1 << 20, 250_000, 8), (20 << 30, 1, 32)],
)
def test_nearly_all_images_have_the_same_size(content: int, inodes: int, size: int) -> None:
    assert ext4.size_for(content, inodes, 4 << 30) == size << 30
