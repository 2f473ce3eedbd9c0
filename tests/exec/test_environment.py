"""The environment of a command in a guest."""

from pathlib import Path

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.exec.environment import command_environment, parse_variable
from bpfmatrix.virtiofs.shares import HostFiles, SharedFolder

HOST = HostFiles(Path("/"))
SHARED = HostFiles(shares=(SharedFolder(Path("/srv/x")),))


def test_what_a_runner_tells_its_tests_is_passed_on() -> None:
    ours = {
        "CARGO_MANIFEST_DIR": "/src/it",
        "GOCOVERDIR": "/tmp/cover",
        "GREETING": "a\n'b' \"c\"",
        "LD_LIBRARY_PATH": "/src/target",
        "HOME": "/home/me",
        "PATH": "/usr/bin:/usr/sbin:/sbin",
    }
    found = command_environment(ours, HOST, ())
    assert found.items() >= ours.items()


@pytest.mark.parametrize(
    "name",
    [
        *("SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "XDG_RUNTIME_DIR", "USER"),
        *("GITHUB_TOKEN", "token", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "STRIPE_API_KEY"),
        *("BASH_FUNC_f%%", "a.b", "1A", "NOT-A-NAME"),
    ],
)
def test_what_is_the_hosts_a_secret_or_no_variable_is_left_out(name: str) -> None:
    assert name not in command_environment({name: "x"}, HOST, ())


def test_env_comes_before_all_rules() -> None:
    ours = {"GITHUB_TOKEN": "t", "GREETING": "hi"}
    chosen = ("GITHUB_TOKEN", "GREETING=a=b", "NEW=")
    found = command_environment(ours, HOST, chosen)
    assert found.items() >= {"GITHUB_TOKEN": "t", "GREETING": "a=b", "NEW": ""}.items()
    with pytest.raises(UsageError, match="--env MISSING: the variable is not set"):
        command_environment(ours, HOST, ("MISSING",))


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (" -j4 --jobserver-auth=3,4", ""),
        ("k -j --jobserver-fds=3,4 --jobserver-auth=fifo:/tmp/x -- A=1", "k -- A=1"),
        ("w", "w"),
    ],
)
def test_makes_job_server_stays_on_the_host(flags: str, left: str) -> None:
    assert command_environment({"MAKEFLAGS": flags}, HOST, ())["MAKEFLAGS"] == left


def test_without_the_hosts_root_its_paths_are_left_out() -> None:
    ours = {"PATH": "/opt/bin", "HOME": "/home/me", "LD_LIBRARY_PATH": "/opt/lib", "A": "b"}
    for files in (HostFiles(), SHARED):
        assert command_environment(ours, files, ()) == {"A": "b"}
    other = command_environment(ours, HostFiles(Path("/srv/tree")), ())
    assert other["A"] == "b"
    assert other["HOME"] == "/root"
    assert "/opt/bin" not in other["PATH"]
    assert "LD_LIBRARY_PATH" not in other


def test_temporary_files_are_in_memory_unless_the_caller_has_a_place() -> None:
    assert command_environment({}, HOST, ())["TMPDIR"] == "/run/tmp"
    assert command_environment({"TMPDIR": "/srv/t"}, HOST, ())["TMPDIR"] == "/srv/t"


@pytest.mark.parametrize("text", ["", "=x", "1A", "A-B=c", "A B"])
def test_a_name_of_env_is_one_that_a_shell_exports(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME or NAME=VALUE"):
        parse_variable(text)
