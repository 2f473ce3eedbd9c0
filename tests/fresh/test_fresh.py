"""The decisions of `nox -s fresh`. Only that session makes machines."""

import os
from pathlib import Path

import pytest

from bpfmatrix.kernels.sources import apt_sources
from tests.fresh import host
from tests.fresh.__main__ import COMMANDS, Case, arguments, cases, judge, main
from tests.fresh.machines import Finished, Machine
from tests.tool import REPOSITORY


def test_the_commands_are_those_of_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for command in COMMANDS.values():
        assert f"\n\n    {command}\n\n" in readme


def test_all_cases_run_unless_some_are_chosen() -> None:
    everything = cases(arguments([]))
    assert [str(case) for case in everything] == [
        *("bookworm, root", "bookworm, sudo", "trixie, root", "trixie, sudo"),
    ]
    assert all(case.commands == ("first", "tests") for case in everything)
    words = ["--suite", "trixie", "--user", "root", "--command", "tests"]
    assert cases(arguments(words)) == [Case("trixie", "root", ("tests",))]


@pytest.mark.parametrize(
    ("status", "said", "passed", "verdict", "detail"),
    [
        (
            0,
            "= 1718 passed, 3 skipped in 702.11s (0:11:42) =",
            True,
            "passed",
            "1718 passed, 3 skipped",
        ),
        (1, "= 3 failed, 2 passed in 7.10s =", False, "failed (1)", "3 failed, 2 passed"),
        (1, "bootstrap: there is neither root nor sudo", False, "failed (1)", ""),
        (None, "", False, "took too long", ""),
    ],
)
def test_the_verdict_of_a_command_comes_from_its_status(
    tmp_path: Path, status: int | None, said: str, passed: bool, verdict: str, detail: str
) -> None:
    (tmp_path / "log").write_text(f"ran it\n{said}\nnox > Session tests ended.\n")
    case = Case("trixie", "root", ("tests",))
    result = judge(case, "tests", Finished(status, 7.0), tmp_path / "log")
    assert (result.passed, result.verdict, result.detail) == (passed, verdict, detail)


def test_only_variables_about_registries_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/a/folder https://links.example")
    monkeypatch.setenv("PIP_CACHE_DIR", "/a/cache")
    monkeypatch.setenv("GOPROXY", "https://go.example")
    given = {
        "https_proxy": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/a/bundle.pem",
        "SECRET_TOKEN": "x",
        "PATH": "/a/bin",
    }
    found = host.environment(given)
    assert found["https_proxy"] == "http://proxy.example:3128"
    assert found["SSL_CERT_FILE"] == str(host.BUNDLE)
    assert found["PIP_INDEX_URL"] == "https://index.example/simple"
    assert found["PIP_FIND_LINKS"] == "https://links.example"
    assert found["GOPROXY"] == "https://go.example"
    assert not {"PIP_CACHE_DIR", "SECRET_TOKEN", "PATH"} & found.keys()


def test_variables_of_a_login_replace_those_of_the_host() -> None:
    machine = Machine(Path("/r"), "sudo", {"HOME": "/of/the/host", "GOPROXY": "off"})
    variables = machine.variables()
    assert (variables["HOME"], variables["GOPROXY"]) == ("/home/developer", "off")
    assert "/usr/sbin" not in variables["PATH"]  # as in the PATH of a user of Debian


def test_only_certificates_that_the_root_lacks_are_added() -> None:
    one, other = (
        f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n" for text in ("QQ", "Qg")
    )
    assert host.certificates(f"# a comment\n{one}{other}", one) == [other]
    assert host.certificates(one, one) == []


def test_apt_uses_the_mirrors_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        apt_sources, "find", lambda suite: apt_sources.AptEntry(f"http://{suite}/", suite)
    )
    assert host.sources_list("trixie") == (
        "deb http://trixie/ trixie main\n"
        "deb http://trixie-updates/ trixie-updates main\n"
        "deb http://trixie-security/ trixie-security main\n"
    )
    assert 'Acquire::http::Proxy "http://p:1";\n' in host.apt_settings({"http_proxy": "http://p:1"})


def test_without_root_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("error: nox -s fresh needs root")
    assert list(tmp_path.iterdir()) == []
