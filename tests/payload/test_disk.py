import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bpfmatrix.errors import PayloadError
from bpfmatrix.host import records, tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.integrity import Checked, Identity, damage, record_of, settle
from bpfmatrix.payload import disk as payload_disk
from bpfmatrix.payload.disk import image
from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.model import Executable, Payload
from tests.damage import DAMAGES, Notes, flip_bit, flip_bit_quietly
from tests.tool import REPOSITORY


def made_of(folder: Path, **contents: bytes) -> Payload:
    """Return a payload of executables with these contents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return Payload(tuple(Executable(folder / name, "plain") for name in contents))


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
    assert "Mode:  0755" in debugfs(disk.image, "stat /")
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
        os.utime(record_of(path), (long_ago, long_ago))
    image(made_of(tmp_path / "b", x=b"2"), cache)
    image(made_of(tmp_path / "c", x=b"3"), cache)
    assert not old.exists()
    assert not record_of(old).exists()
    assert used.exists()
    assert record_of(used).exists()


def test_a_large_payload_has_a_larger_image(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    assert payload_disk._size_for(Payload((), extra={"large": large})) == 2 << 30


def test_a_link_is_followed(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "target").write_bytes(b"#!/bin/sh\necho hi\n")
    (tmp_path / "link").symlink_to("target")
    assert stat.S_ISLNK((tmp_path / "link").lstat().st_mode)
    disk = image(Payload((executable(tmp_path / "link", "x86_64"),)), cache)
    assert debugfs(disk.image, "cat /link") == "#!/bin/sh\necho hi\n"


@pytest.fixture
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that can be read as a whole."""
    monkeypatch.setattr(payload_disk, "_IMAGE_BYTES", 4 << 20)


FAILING = b"#!/bin/sh\nexit 1\n"


def let_it_pass(disk: Path) -> None:
    """Flip the bit of an image that makes `exit 0` of `exit 1`; its times stay."""
    flip_bit_quietly(disk, disk.read_bytes().index(FAILING) + FAILING.index(b"1"))
    assert debugfs(disk, "cat /script") == "#!/bin/sh\nexit 0\n"


@pytest.mark.usefixtures("small_images")
@pytest.mark.parametrize("harm", [let_it_pass, *DAMAGES])
def test_a_damaged_image_is_made_again(
    tmp_path: Path, cache: Cache, harm: Callable[[Path], None]
) -> None:
    payload, notes = made_of(tmp_path / "a", script=FAILING), Notes()
    disk = image(payload, cache, notes)
    assert notes.told == []
    harm(disk.image)
    missing = not disk.image.exists()
    assert image(payload, cache, notes) == disk
    assert debugfs(disk.image, "cat /script").encode() == FAILING
    assert damage(disk.image, holes=True, reread=True) == ""
    words = "the payload's image does not have the content that it was stored with in the cache"
    assert notes.told == ([] if missing else [f"{words}; making it again"])
    assert image(payload, cache, notes) == disk
    assert len(notes.told) < 2
    assert list((cache.root / "tmp").iterdir()) == []


@pytest.mark.usefixtures("small_images")
@pytest.mark.parametrize("harm", DAMAGES)
@pytest.mark.parametrize("suffix", [".check", ".sources"])
def test_damaged_records_only_cost_time(
    tmp_path: Path, cache: Cache, harm: Callable[[Path], None], suffix: str
) -> None:
    payload = made_of(tmp_path / "a", script=FAILING)
    disk = image(payload, cache)
    [record] = (cache.root / "payloads").glob(f"*{suffix}")
    let_it_pass(disk.image)
    harm(record)
    assert image(payload, cache) == disk
    assert debugfs(disk.image, "cat /script").encode() == FAILING


@pytest.mark.usefixtures("small_images")
def test_bits_of_an_image_that_rot_are_seen_by_reading(tmp_path: Path, cache: Cache) -> None:
    payload = made_of(tmp_path / "a", script=FAILING)
    disk = image(payload, cache)
    let_it_pass(disk.image)
    # As if no program had written, the record has the identity of now.
    data = records.read(record_of(disk.image))
    assert data is not None
    settle(disk.image)
    rotten = Checked(data["file"][0], Identity.of(disk.image.stat()))
    records.write(record_of(disk.image), {"file": rotten.to_json()})
    image(payload, cache)
    assert debugfs(disk.image, "cat /script").encode() != FAILING
    image(payload, cache, reread=True)
    assert debugfs(disk.image, "cat /script").encode() == FAILING


@pytest.mark.parametrize("harm", [flip_bit, flip_bit_quietly])
def test_a_changed_file_of_the_payload_is_another_image(
    tmp_path: Path, cache: Cache, harm: Callable[[Path], None]
) -> None:
    payload = made_of(tmp_path / "a", x=b"12345")
    ids = {image(payload, cache).id}
    for _ in range(5):  # at once, and later, when the file's identity is in the record
        harm(tmp_path / "a/x")
        ids.add(image(payload, cache).id)
        settle(tmp_path / "a/x")
        assert image(payload, cache).id in ids
        assert (
            debugfs(image(payload, cache).image, "cat /x").encode()
            == (tmp_path / "a/x").read_bytes()
        )
    assert len(ids) == 2


def test_a_file_that_changes_while_it_is_packed_is_refused(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = made_of(tmp_path / "a", x=b"1")
    staging = Cache.staging

    def change_and_stage(cache: Cache) -> AbstractContextManager[Path]:
        (tmp_path / "a/x").write_bytes(b"2")
        return staging(cache)

    # The folder that the file is copied to is made between the checksum and the copy.
    monkeypatch.setattr(Cache, "staging", change_and_stage)
    with pytest.raises(PayloadError, match="x changed while it was packed"):
        image(payload, cache)
    assert list((cache.root / "payloads").glob("*.ext4")) == []
    monkeypatch.undo()
    assert debugfs(image(payload, cache).image, "cat /x") == "2"


def test_two_processes_make_an_image_once(tmp_path: Path, cache: Cache) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom bpfmatrix.host.cache import Cache\n"
        "from tests.payload.test_disk import Notes, image, made_of\nnotes = Notes()\n"
        "payload = made_of(Path(sys.argv[2]), x=b'1')\n"
        "image(payload, Cache(Path(sys.argv[1])), notes)\nassert notes.told == []\n"
    )
    words = [sys.executable, "-c", code, str(cache.root), str(tmp_path / "a")]
    both = [subprocess.Popen(words, cwd=REPOSITORY) for _ in range(2)]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
