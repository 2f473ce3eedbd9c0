"""Whether a file still has its content: what is seen, what is read for that, and what is not."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.host import integrity, records
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.integrity import Checked, Identity, damage, measure, record_of, seal
from tests.damage import DAMAGES, flip_bit_quietly

CONTENT = bytes(range(256)) * 64
CHANGED = "does not have the content that it was stored with"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    seal(path)
    return path


def identity_in_record(path: Path) -> Identity | None:
    data = records.read(record_of(path))
    assert data is not None
    return Checked.from_json(data["file"]).identity


def test_a_sealed_file_is_intact_at_once_and_is_not_read(sealed: Path) -> None:
    assert identity_in_record(sealed) == Identity.of(sealed.stat())
    known = Checked("not the checksum of the content", Identity.of(sealed.stat()))
    assert measure(sealed, known) is known
    assert measure(sealed, known, reread=True).sha256 == sha256(CONTENT)
    assert damage(sealed) == ""


@pytest.mark.parametrize("harm", DAMAGES)
@pytest.mark.parametrize("holes", [False, True])
def test_damage_right_after_the_seal_is_seen(
    tmp_path: Path, harm: Callable[[Path], None], holes: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    seal(path, holes=holes)
    harm(path)
    assert damage(path, holes=holes) == (CHANGED if path.exists() else "is missing")
    assert damage(path, holes=holes)  # it is not taken for the file's content from then on


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_record_is_damage(sealed: Path, harm: Callable[[Path], None]) -> None:
    harm(record_of(sealed))
    assert damage(sealed) == "has no record of its content"
    sealed.unlink()
    assert damage(sealed) == "is missing"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.chmod(0o600),
        lambda path: os.utime(path, (0, 0)),
        lambda path: path.with_name("link").hardlink_to(path),
        lambda path: (shutil.copy2(path, path.with_name("c")), path.with_name("c").replace(path)),
        lambda path: path.write_bytes(CONTENT),
    ],
    ids=["chmod", "utime", "link", "copy", "rewritten"],
)
def test_a_file_with_another_identity_and_its_content_is_intact(
    sealed: Path, change: Callable[[Path], object]
) -> None:
    change(sealed)
    assert identity_in_record(sealed) != Identity.of(sealed.stat())
    assert damage(sealed) == ""
    integrity.settle(sealed)
    assert damage(sealed) == ""
    assert identity_in_record(sealed) == Identity.of(sealed.stat())
    flip_bit_quietly(sealed)
    assert damage(sealed) == CHANGED


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    # Before Linux 6.13, a second write within a tick of the clock leaves the change time as it is.
    path, changed = tmp_path / "file", 0
    for number in range(50):
        path.write_bytes(CONTENT)
        first = measure(path)
        flip_bit_quietly(path, number)
        changed += measure(path, first).sha256 != first.sha256
    assert changed == 50


def test_times_in_whole_seconds_take_longer_to_settle() -> None:
    now = 1_000_000_000_000_000_000
    fine, coarse = (Identity(1, 2, 3, 4, now + ns) for ns in (1, 0))
    assert not fine.is_settled(now)
    assert fine.is_settled(now + 30_000_000)
    assert not coarse.is_settled(now + 30_000_000)
    assert coarse.is_settled(now + 2_000_000_000)
    assert not fine.is_settled(now - 10**12)  # the clock was set back


def test_bits_that_rot_are_seen_by_reading(sealed: Path) -> None:
    # Nothing that a program does to a file rots it, so the record has the checksum of another file.
    known = Checked(sha256(b"another"), Identity.of(sealed.stat()))
    records.write(record_of(sealed), {"file": known.to_json()})
    assert damage(sealed) == ""
    assert damage(sealed, reread=True) == CHANGED


def test_use_is_marked_at_the_record(sealed: Path) -> None:
    before = Identity.of(sealed.stat())
    os.utime(record_of(sealed), (0, 0))
    integrity.mark_used(sealed)
    assert record_of(sealed).stat().st_mtime > time.time() - 60
    assert Identity.of(sealed.stat()) == before
    integrity.remove(sealed)
    assert list(sealed.parent.iterdir()) == []
    integrity.mark_used(sealed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.lists(st.text(max_size=4) | st.integers() | st.none(), max_size=7))
def test_wild_records_are_damage(sealed: Path, value: list[object]) -> None:
    records.write(record_of(sealed), {"file": value})
    assert damage(sealed) != ""
    records.write(record_of(sealed), {"files": {"a": value}})
    integrity.checked_files(record_of(sealed))
