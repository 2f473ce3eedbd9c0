import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.guest.cpio import Entry, pack, unpack

# Linux allows any bytes but NUL and / in the name of a file.
PART = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
NAME = st.lists(PART.filter(lambda p: p not in (".", "..")), min_size=1, max_size=3).map("/".join)
ENTRY = st.one_of(
    st.builds(Entry.file, NAME, st.binary(), executable=st.booleans()),
    st.builds(Entry.folder, NAME),
    st.builds(Entry.link, NAME, PART),
    st.builds(
        Entry,
        NAME,
        st.just(stat.S_IFCHR | 0o600),
        device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    ),
)
ENTRIES = st.lists(ENTRY, max_size=6, unique_by=lambda entry: entry.name).filter(
    lambda entries: all(entry.name != "TRAILER!!!" for entry in entries)
)


@given(ENTRIES)
def test_what_was_packed_comes_out_again(entries: list[Entry]) -> None:
    archive = pack(entries)
    assert unpack(archive) == entries
    assert pack(entries) == archive
    assert len(archive) % 4 == 0


@given(ENTRIES, st.data())
def test_a_damaged_archive_is_refused_or_read(entries: list[Entry], data: st.DataObject) -> None:
    archive = bytearray(pack(entries))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.sampled_from(b"-+_0fz"))
    try:
        found = unpack(bytes(archive))
    except ValueError:
        return
    assert sum(len(entry.content) for entry in found) <= len(archive)


def test_a_negative_size_is_refused() -> None:
    archive = bytearray(pack([Entry.file("a", b"12345678")]))
    archive[6 + 6 * 8 : 6 + 7 * 8] = b"-0000070"  # filesize: back to the beginning of the archive
    with pytest.raises(ValueError, match="newc header"):
        unpack(bytes(archive))


@given(st.binary(max_size=300))
def test_bytes_that_are_not_an_archive_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="newc"):
        unpack(data)


@given(ENTRIES.filter(bool), st.integers(1, 400))
def test_an_archive_without_its_end_is_refused(entries: list[Entry], missing: int) -> None:
    archive = pack(entries)
    with pytest.raises(ValueError):  # noqa: PT011 - from the decoding of a cut name, or with its place
        unpack(archive[: max(0, len(archive) - missing)])


@pytest.mark.parametrize(
    "name", ["", "/etc", "a\0b", "TRAILER!!!", "\ud800", "..", "a/../b", "./a"]
)
def test_a_name_that_is_not_a_relative_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - from the encoding, or with the name in it
        pack([Entry.file(name, b"")])


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="two entries with the name 'a'"):
        pack([Entry.folder("a"), Entry.file("a", b"")])


EXAMPLE = [
    Entry.folder("bin"),
    Entry.file("bin/program", b"#!/bin/sh\n", executable=True),
    Entry.file("empty", b""),
    Entry.file("größe", b"\0\1\2" * 1001),
    Entry.link("bin/also", "program"),
    Entry("console", stat.S_IFCHR | 0o600, device=(5, 1)),
]


def cpio(archive: bytes, *options: str, folder: Path | None = None) -> str:
    """Let GNU cpio read an archive, and return what it prints."""
    done = subprocess.run(
        ["cpio", *options],
        input=archive,
        capture_output=True,
        cwd=folder,
        check=True,
        env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    assert done.stderr.decode().endswith("blocks\n"), done.stderr
    return done.stdout.decode()


def test_cpio_lists_what_was_packed() -> None:
    listed = [line.split() for line in cpio(pack(EXAMPLE), "-tvn").splitlines()]
    # mode, links, uid, gid, then (for a device: its numbers, else) the size.
    assert [line[:5] for line in listed] == [
        ["drwxr-xr-x", "2", "0", "0", "0"],
        ["-rwxr-xr-x", "1", "0", "0", "10"],
        ["-rw-r--r--", "1", "0", "0", "0"],
        ["-rw-r--r--", "1", "0", "0", "3003"],
        ["lrwxrwxrwx", "1", "0", "0", "7"],
        ["crw-------", "1", "0", "0", "5,"],
    ]
    assert [line[-1] for line in listed] == [
        *("bin", "bin/program", "empty", "größe"),
        *("program", "console"),
    ]
    assert all("1970" in line for line in listed)


def test_cpio_extracts_what_was_packed(tmp_path: Path) -> None:
    files = [entry for entry in EXAMPLE if not stat.S_ISCHR(entry.mode)]  # devices need root
    cpio(pack(files), "-i", "--no-preserve-owner", folder=tmp_path)
    assert (tmp_path / "bin/program").read_bytes() == b"#!/bin/sh\n"
    assert stat.S_IMODE((tmp_path / "bin/program").stat().st_mode) == 0o755
    assert (tmp_path / "größe").read_bytes() == b"\0\1\2" * 1001
    assert (tmp_path / "bin/also").readlink() == Path("program")


def test_an_archive_that_cpio_made_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("a/file")
    made = subprocess.run(
        ["cpio", "-o", "-H", "newc"],
        input=b"a\na/file\nlink\n",
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    found = {entry.name: entry for entry in unpack(made.stdout)}
    assert list(found) == ["a", "a/file", "link"]
    assert found["a/file"].content == b"hello"
    assert found["link"].content == b"a/file"
    assert stat.S_ISDIR(found["a"].mode)
