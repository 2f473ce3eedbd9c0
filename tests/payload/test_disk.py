import os
import stat
import subprocess
import time
from pathlib import Path

from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload import disk as payload_disk
from bpfmatrix.payload.disk import image
from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.model import Executable, Payload


def made_of(folder: Path, **contents: bytes) -> Payload:
    """Return a payload of executables with these contents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return Payload(tuple(Executable(folder / name, "program") for name in contents))


def test_an_image_is_made_once_for_each_content(tmp_path: Path, cache: Cache) -> None:
    first = image(made_of(tmp_path / "a", x=b"1", y=b"2"), cache)
    again = image(made_of(tmp_path / "b", y=b"2", x=b"1"), cache)
    other = image(made_of(tmp_path / "c", x=b"1", y=b"3"), cache)
    renamed = image(made_of(tmp_path / "d", x=b"1", z=b"2"), cache)
    assert again == first
    assert len({first.image, other.image, renamed.image}) == 3
    assert len({first.id, other.id, renamed.id}) == 3
    # They have one size, so that a machine that was saved with one can be restored with another.
    assert len({disk.image.stat().st_size for disk in (first, other, renamed)}) == 1
    assert first.image.stat().st_blocks * 512 < 8 << 20
    assert list((cache.root / "tmp").iterdir()) == []


def debugfs(disk: Path, request: str) -> str:
    """Read an image with debugfs(8)."""
    program = tools.require("debugfs", "e2fsprogs")
    done = subprocess.run(
        [program, "-R", request, disk], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_an_image_holds_the_files(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "a.bpf.o").write_bytes(b"object")
    files = made_of(tmp_path / "files", script=b"#!/bin/sh\n")
    disk = image(Payload(files.tests, (tmp_path / "a.bpf.o",)), cache)
    assert debugfs(disk.image, "cat /script") == "#!/bin/sh\n"
    assert debugfs(disk.image, "cat /ebpf/a.bpf.o") == "object"
    assert debugfs(disk.image, "cat /.id") == f"{disk.id}\n"
    assert "Mode:  0755" in debugfs(disk.image, "stat /script")
    assert "Mode:  0644" in debugfs(disk.image, "stat /ebpf/a.bpf.o")


def test_further_files_keep_whether_they_can_be_executed(tmp_path: Path, cache: Cache) -> None:
    for name, mode in (("program", 0o700), ("text", 0o600)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
    tests = made_of(tmp_path / "files", script=b"#!/bin/sh\n").tests
    extra = {"tree/bin/program": tmp_path / "program", "tree/text": tmp_path / "text"}
    disk = image(Payload(tests, extra=extra), cache)
    assert debugfs(disk.image, "cat /tree/bin/program") == "program"
    assert "Mode:  0755" in debugfs(disk.image, "stat /tree/bin/program")
    assert "Mode:  0644" in debugfs(disk.image, "stat /tree/text")
    (tmp_path / "text").chmod(0o700)
    assert image(Payload(tests, extra=extra), cache).id != disk.id


def test_an_unused_image_goes_and_a_used_one_stays(tmp_path: Path, cache: Cache) -> None:
    old = image(made_of(tmp_path / "a", x=b"1"), cache).image
    used = image(made_of(tmp_path / "b", x=b"2"), cache).image
    long_ago = time.time() - 30 * 24 * 3600
    for path in (old, used):
        os.utime(path, (long_ago, long_ago))
    image(made_of(tmp_path / "b", x=b"2"), cache)
    image(made_of(tmp_path / "c", x=b"3"), cache)
    assert not old.exists()
    assert used.exists()


def test_a_large_payload_has_a_larger_image(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    assert payload_disk._size_for([large]) == 2 << 30


def test_a_link_is_followed(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "target").write_bytes(b"#!/bin/sh\necho hi\n")
    (tmp_path / "link").symlink_to("target")
    assert stat.S_ISLNK((tmp_path / "link").lstat().st_mode)
    disk = image(Payload((executable(tmp_path / "link", "x86_64"),)), cache)
    assert debugfs(disk.image, "cat /link") == "#!/bin/sh\necho hi\n"
