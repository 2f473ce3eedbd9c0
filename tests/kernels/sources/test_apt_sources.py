from pathlib import Path

import pytest

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.kernels.sources.apt_get import host_acquire_options
from bpfmatrix.kernels.sources.apt_sources import AptEntry, _signed_by, pick

MAIN = AptEntry("http://a.example/debian/", "bookworm", "x:1")
UPDATES = AptEntry("http://a.example/debian/", "bookworm-updates", "x:1")
SECURITY = AptEntry("http://b.example/debian-security/", "bookworm-security", "x:2")
OTHER = AptEntry("https://c.example/tool/", "tool-bookworm", "x:3")
HOST = [OTHER, MAIN, UPDATES, SECURITY]


@pytest.mark.parametrize(
    ("suite", "mirror"),
    [
        ("bookworm-updates", UPDATES),
        ("bookworm-security", SECURITY),
        ("trixie-security", SECURITY),
        ("trixie-backports", MAIN),
        ("sid", MAIN),
        ("tool-bookworm", OTHER),
    ],
)
def test_the_archive_of_a_suite(suite: str, mirror: AptEntry) -> None:
    assert pick(HOST, suite) == mirror


def test_a_host_without_a_security_archive() -> None:
    found = pick([AptEntry("http://a.example/debian", "sid", "x:1")], "bookworm-security")
    assert found is not None
    assert found.uri == "http://a.example/debian-security/"


def test_a_mirror_list_is_a_uri_as_any() -> None:
    listed = AptEntry("mirror+file:/etc/apt/mirrors/debian.list", "trixie", "x:1")
    assert pick([listed], "trixie-backports") == listed
    with pytest.raises(KernelUnavailableError, match="no mirror of Debian's security archive"):
        pick([listed], "trixie-security")


def test_other_peoples_repositories_are_no_mirror() -> None:
    with pytest.raises(KernelUnavailableError, match="no mirror of Debian's archive"):
        pick([OTHER], "trixie-backports")


def test_keyrings_of_an_entry(tmp_path: Path) -> None:
    deb822 = tmp_path / "a.sources"
    deb822.write_text(
        "Types: deb\nURIs: http://a.example/debian\nSuites: sid\nComponents: main\n\n"
        "# another\nTypes: deb\nSigned-By: /k/one.gpg /k/two.asc\nURIs: x\n\n"
        "Types: deb\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    )
    assert _signed_by(f"{deb822}:1") == []
    assert _signed_by(f"{deb822}:2") == [Path("/k/one.gpg"), Path("/k/two.asc")]
    assert _signed_by(f"{deb822}:3") == []
    assert _signed_by(f"{deb822}:9") == []
    lines = tmp_path / "sources.list"
    lines.write_text("#\ndeb [arch=amd64 signed-by=/k/a.gpg,/k/b.gpg] http://a.example/ sid main\n")
    assert _signed_by(f"{lines}:2") == [Path("/k/a.gpg"), Path("/k/b.gpg")]
    assert _signed_by("nowhere") == []


def test_what_is_kept_of_the_hosts_settings() -> None:
    dump = (
        'APT "";\nAPT::Update::Post-Invoke:: "rm -f /x";\nAcquire "";\n'
        'Acquire::http::Proxy "http://p.example:3128";\nAcquire::https::CAInfo "/ca.pem";\n'
        'Acquire::IndexTargets::deb::DEP-11::MetaKey "x";\nAcquire::Languages:: "en";\n'
        'Acquire::http::User-Agent "a"b";\nDPkg::Post-Invoke:: "rm -f /y";\n'
    )
    assert list(host_acquire_options(dump)) == [
        'Acquire::http::Proxy "http://p.example:3128";',
        'Acquire::https::CAInfo "/ca.pem";',
    ]
