"""Release files: whose they are, how long they hold, and which indexes they name."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels.sources import release_file, signatures
from bpfmatrix.kernels.sources.debian_mirrors import KEYRING
from bpfmatrix.kernels.sources.release_file import Index
from tests.kernels.archive import gpg

A, B, C, D = (letter * 64 for letter in "abcd")
RELEASE = f"""\
Origin: Debian
Label: Debian
Suite: stable
Codename: trixie
Date: Sat, 21 Nov 2026 09:15:44 UTC
Valid-Until: Sat, 28 Nov 2026 09:15:44 UTC
Acquire-By-Hash: yes
Architectures: all amd64 arm64
Components: main contrib
MD5Sum:
 0ed6d4c8891eb86358b94bb35d9e4da4 3 main/binary-amd64/Packages.xz
SHA256:
 {A} 10 main/binary-amd64/Packages
 {B} 5 main/binary-amd64/Packages.gz
 {C} 4 main/binary-amd64/Packages.xz
 {D} 4 contrib/binary-amd64/Packages.gz
 {A} 4 main/binary-all/Packages.xz
"""


def indexes(text: str, *components: str, arch: str = "amd64") -> list[Index]:
    return release_file.indexes(release_file.parse(text.encode()), components, arch)


def test_the_smallest_index_of_each_component() -> None:
    only = RELEASE.replace("Date:", "No-Support-for-Architecture-all: Packages\nDate:")
    first = Index("main/binary-amd64/Packages.xz", C, by_hash=True)
    second = Index("contrib/binary-amd64/Packages.gz", D, by_hash=True)
    assert indexes(only, "main", "contrib") == [first, second]
    assert indexes(RELEASE, "main") == [first, Index("main/binary-all/Packages.xz", A, True)]
    plain = only.replace("Acquire-By-Hash: yes\n", "").replace(".xz", ".lz").replace(".gz", ".bz2")
    assert indexes(plain, "main") == [Index("main/binary-amd64/Packages", A, by_hash=False)]
    assert indexes(only, "main", arch="riscv64") == []
    assert indexes("Origin: Debian\n", "main") == []


@pytest.mark.parametrize(
    ("day", "why"),
    [
        ("2026-11-20", "Its date is 2026-11-21 09:15 UTC, which is not yet."),
        ("2026-11-22", ""),
        ("2026-11-29", "It is expired: it was valid until 2026-11-28 09:15 UTC."),
    ],
)
def test_how_long_it_holds(day: str, why: str) -> None:
    now = datetime.fromisoformat(day).replace(tzinfo=UTC)
    assert release_file.expiry(release_file.parse(RELEASE.encode()), now) == why


def test_without_dates_it_holds() -> None:
    for text in ("Origin: x\n", "Date: yesterday\nValid-Until: \n"):
        assert release_file.expiry(release_file.parse(text.encode()), datetime.now(UTC)) == ""


@pytest.mark.parametrize(
    ("names", "suite", "it_is"),
    [
        ({"Suite": "stable", "Codename": "trixie"}, "trixie", True),
        ({"Suite": "stable", "Codename": "trixie"}, "stable", True),
        ({"Suite": "stable", "Codename": "trixie"}, "trixie-security", False),
        ({"Suite": "oldstable-security", "Codename": "bookworm-security"}, "trixie", False),
        ({"Suite": "oldoldstable", "Codename": "buster"}, "buster/updates", True),
        ({}, "", False),
    ],
)
def test_whose_it_is(names: dict[str, str], suite: str, it_is: bool) -> None:
    assert release_file.is_suite(names, suite) == it_is


def signed(keyring: Path, tmp_path: Path, text: str) -> bytes:
    (tmp_path / "text").write_text(text)
    gpg(keyring.parent, "--output", f"{tmp_path}/signed", "--clearsign", f"{tmp_path}/text")
    return (tmp_path / "signed").read_bytes()


def test_only_what_is_signed_is_taken(keyring: Path, tmp_path: Path) -> None:
    data = signed(keyring, tmp_path, RELEASE)
    text = signatures.signed_text(data, [KEYRING, keyring])
    assert text is not None
    assert text.decode().splitlines() == RELEASE.splitlines()
    assert signatures.signed_text(data.replace(b"trixie", b"woody"), [keyring]) is None
    assert signatures.signed_text(data, [KEYRING]) is None
    assert signatures.signed_text(data, []) is None
    assert signatures.signed_text(RELEASE.encode(), [keyring]) is None
    assert signatures.signed_text(b"", [keyring]) is None
    # What stands around the signed text is not signed.
    around = signatures.signed_text(b"Suite: woody\n" + data + b"Suite: woody\n", [keyring])
    assert around is None or b"woody" not in around


def test_an_armored_keyring(keyring: Path, tmp_path: Path) -> None:
    gpg(keyring.parent, "--armor", "--output", f"{tmp_path}/a.asc", "--export")
    assert signatures.signed_text(signed(keyring, tmp_path, "x\n"), [tmp_path / "a.asc"])


def test_a_keyring_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("text")
    for name in ("k", "missing"):
        with pytest.raises(BpfmatrixError, match=f"the keyring {tmp_path}/{name} can't be read"):
            signatures.signed_text(b"", [tmp_path / name])
