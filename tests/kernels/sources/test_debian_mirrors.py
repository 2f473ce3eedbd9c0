"""What a host's packages know of Debian, and the keys that bpfmatrix has itself."""

from pathlib import Path

import pytest

from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.kernels.sources import debian_mirrors
from bpfmatrix.kernels.sources.debian_mirrors import KEYRING, Mirror

TEMPLATE = """\
ChangelogURI: https://changelogs.example/%s

Suite: {series}
RepositoryType: deb
BaseURI: https://a.example/debian/
Component: main

Suite: {series}-security
BaseURI: https://s.example/
ParentSuite: {series}

Suite: {series}-updates
BaseURI: https://u.example/debian/

Suite: sid
BaseURI: https://b.example/debian/
"""
OLD_TEMPLATE = """\
Suite: bookworm
BaseURI: http://a.example/debian/

Suite: buster/updates
BaseURI: http://s.example/
"""


def write(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "debian", "security"),
    [
        (TEMPLATE, "https://a.example/debian/", "https://s.example/"),
        (OLD_TEMPLATE, "http://a.example/debian/", "http://s.example/"),
        ("Suite: sid\nBaseURI: http://a.example/debian/\n", "http://a.example/debian/", None),
    ],
)
def test_python_apts_template(tmp_path: Path, text: str, debian: str, security: str | None) -> None:
    file = write(tmp_path, "usr/share/python-apt/templates/Debian.info", text)
    assert debian_mirrors.find(tmp_path) == Mirror(debian, security, file)


def test_debootstraps_script(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "usr/share/debootstrap/scripts/sid",
        "case $ARCH in\n*)\n\tdefault_mirror http://a.example/debian\n\t;;\nesac\n",
    )
    assert debian_mirrors.find(tmp_path) == Mirror("http://a.example/debian", None, script)


def test_debootstraps_own_default(tmp_path: Path) -> None:
    program = write(tmp_path, "usr/sbin/debootstrap", 'x\nDEF_MIRROR="http://a.example/debian"\n')
    assert debian_mirrors.find(tmp_path) is None  # it has no script for Debian
    write(tmp_path, "usr/share/debootstrap/scripts/sid", "mirror_style release\n")
    assert debian_mirrors.find(tmp_path) == Mirror("http://a.example/debian", None, program)
    program.write_text('DEF_MIRROR="http://a.example/ubuntu"\n')
    assert debian_mirrors.find(tmp_path) is None


@pytest.mark.parametrize("text", ["", "Suite: {series}\n", "BaseURI: x\n\n\nSuite: {series}", "\0"])
def test_what_names_no_mirror(tmp_path: Path, text: str) -> None:
    write(tmp_path, "usr/share/python-apt/templates/Debian.info", text)
    write(tmp_path, "usr/share/debootstrap/scripts/sid", text)
    assert debian_mirrors.find(tmp_path) is None


def test_the_keyring_is_that_of_debian_archive_keyring() -> None:
    """The checksum was taken from the package that keyrings/README.md names."""
    expected = "506b815cbb32d9b6066b4a2aa524071e071761e7e7f68c3ac74f3061ba852017"
    assert sha256_of(KEYRING) == expected
    assert expected in KEYRING.with_name("README.md").read_text()
