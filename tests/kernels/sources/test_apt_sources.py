from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bpfmatrix.config.archives import Archives, NamedArchives
from bpfmatrix.errors import KernelUnavailableError, UsageError
from bpfmatrix.kernels.sources import apt_sources
from bpfmatrix.kernels.sources.apt_get import host_acquire_options
from bpfmatrix.kernels.sources.apt_sources import AptEntry, _signed_by, choose, pick
from bpfmatrix.kernels.sources.debian_mirrors import KEYRING, Mirror

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
    assert pick([listed], "trixie-security") is None


def test_other_peoples_repositories_are_no_mirror() -> None:
    assert pick([OTHER], "trixie-backports") is None


NAMED = NamedArchives(Archives(debian="http://n.example/debian"), "kernels.yaml")
KNOWN = Mirror("https://k.example/debian/", "https://s.example/", Path("/usr/share/x"))


def chosen(
    suite: str,
    named: NamedArchives | None = None,
    host: Sequence[AptEntry] = (),
    known: Mirror | None = None,
) -> tuple[str, str]:
    entry = choose(suite, named, lambda: host, lambda: known)
    return entry.uri, entry.by or entry.place


def test_what_the_user_named_wins_and_what_is_known_is_the_last() -> None:
    assert chosen("trixie", NAMED, HOST, KNOWN) == ("http://n.example/debian", "kernels.yaml")
    beside = "http://n.example/debian-security/"
    assert chosen("trixie-security", NAMED, HOST, KNOWN) == (beside, "kernels.yaml")
    assert chosen("trixie", None, HOST, KNOWN) == (MAIN.uri, "x:1")
    assert chosen("trixie", None, [OTHER], KNOWN) == (KNOWN.debian, "/usr/share/x")
    # Beside the archive first, then what the host's package says.
    beside = "https://k.example/debian-security/"
    assert chosen("trixie-security", None, [], KNOWN) == (beside, "/usr/share/x")
    elsewhere = replace(KNOWN, debian="https://k.example/")
    assert chosen("trixie-security", None, [], elsewhere)[0] == "https://s.example/"


def test_a_suite_that_is_not_debians_is_the_hosts_own() -> None:
    assert chosen("tool-bookworm", NAMED, HOST, KNOWN) == (OTHER.uri, "x:3")
    assert chosen("tool-trixie", NAMED) == ("http://n.example/debian", "kernels.yaml")


def test_nothing_is_known() -> None:
    for suite, kind in (("sid", "Debian's archive"), ("sid-security", "Debian's security archive")):
        with pytest.raises(KernelUnavailableError, match=f"^{suite}: no mirror of {kind} is known"):
            chosen(suite, None, [OTHER], None)


def test_a_named_archive_without_its_security_archive() -> None:
    archives = Archives(debian="http://n.example/")
    with pytest.raises(UsageError, match=r"kernels\.yaml names .* but not Debian's security"):
        chosen("trixie-security", NamedArchives(archives, "kernels.yaml"), HOST, KNOWN)
    both = Archives.model_validate({"debian": "http://n.example/", "debian-security": "file:///s"})
    assert chosen("trixie-security", NamedArchives(both, "x"), HOST, KNOWN) == ("file:///s", "x")


def test_keyrings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apt_sources, "HOST_KEYRING", tmp_path / "debian.gpg")
    assert AptEntry("x", "sid", by="kernels.yaml").keyrings == [KEYRING]
    assert AptEntry("x", "sid", "y:1").keyrings == []  # apt's trusted.gpg.d
    assert AptEntry("x", "sid", keyring=Path("/k")).keyrings == [Path("/k")]
    (tmp_path / "debian.gpg").touch()
    assert AptEntry("x", "sid", "y:1").keyrings == [tmp_path / "debian.gpg", KEYRING]


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
