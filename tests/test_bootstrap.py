"""What `bootstrap` says on hosts of other distributions, whose package managers it does not run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tool import REPOSITORY

# What every host has that `bootstrap` calls itself, of coreutils, sed, grep and awk.
TOOLS = ("sh", "awk", "cat", "cksum", "flock", "grep", "head", "id", "sed", "stat", "tr", "uname")
# What it can't find below, whatever this machine has: these are looked for on PATH.
LOOKED_FOR = ("qemu-system-x86", "busybox-static", "clang-19", "make", "util-linux", "golang-go")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with as much of a checkout as `bootstrap` reads before it installs something."""
    made = tmp_path / "checkout"
    (made / "support").mkdir(parents=True)
    for name in ("bootstrap", "pyproject.toml", "support/go.mod"):
        shutil.copy(REPOSITORY / name, made / name)
    return made


def said(checkout: Path, manager: str, *arguments: str) -> str:
    """Run `bootstrap` where only the manager and the tools are on PATH; return what it says."""
    programs = checkout / "programs"
    programs.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    if manager:  # `bootstrap` only looks whether it is there
        (programs / manager).write_text("#!/bin/sh\necho called >&2\nexit 1\n")
        (programs / manager).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", checkout / "bootstrap", *arguments],
        env={"PATH": str(programs), "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "called" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("manager", "command", "names"),
    [
        ("dnf", "dnf install", "qemu-system-x86-core busybox clang make util-linux golang"),
        ("pacman", "pacman -S --needed", "qemu-system-x86 busybox clang make util-linux go"),
        ("apk", "apk add", "qemu-system-x86_64 busybox-static clang19 make setpriv go"),
        ("zypper", "zypper install", "qemu-x86 busybox-static clang make util-linux go"),
    ],
)
def test_the_command_of_another_distribution(
    checkout: Path, manager: str, command: str, names: str
) -> None:
    lines = said(checkout, manager, "-s", "kernel-6.1").splitlines()
    assert lines[0] == "bootstrap: this is missing:"
    assert "  QEMU: qemu-system-x86_64" in lines
    match = re.fullmatch(rf"Install it: (?:sudo )?{command} (.*)", lines[-1])
    assert match
    assert [name for name in match[1].split() if name in names.split()] == names.split()


def test_sessions_that_need_more(checkout: Path) -> None:
    text = said(checkout, "pacman", "-s", "kernel-build")
    assert re.search(r"^Install it: .* gdb xz flex bison bc perl pahole", text, re.MULTILINE)
    # What is for this project's own tests has no column of its own.
    last = text.splitlines()[-1]
    assert last.startswith("Install also what Debian has in these packages: ")
    assert "gpgv" in last


def test_a_host_without_any_manager(checkout: Path) -> None:
    text = said(checkout, "")
    assert text.startswith("bootstrap: this is missing, and no package manager that is known here:")
    assert "Install" not in text


def test_each_package_of_a_kernels_session_has_a_name_everywhere() -> None:
    text = (REPOSITORY / "bootstrap").read_text()
    table = text.partition("<<-'TABLE'\n")[2].partition("\tTABLE")[0]
    rows = [line.split() for line in table.splitlines()]
    assert all(len(row) == 5 for row in rows)
    looked = text.partition("look() {")[2].partition("\n}")[0]
    needed = set(re.findall(r"need ([a-z0-9.-]+) ", looked)) - {"ca-certificates"}
    assert needed >= set(LOOKED_FOR)
    assert needed <= {row[0] for row in rows}


def test_tools_alone_with_qemu_of_an_architecture(checkout: Path) -> None:
    text = said(checkout, "pacman", "--tools", "aarch64", "s390x")
    assert re.search(r"^Install it: .* qemu-system-aarch64 .*qemu-system-s390x", text, re.MULTILINE)
    # They are no session's names.
    assert "gdb" not in text
    assert not (checkout / ".venv").exists()


def test_pythons_of_debian_are_unpacked_by_its_own_program(checkout: Path) -> None:
    text = said(checkout, "dnf", "-s", "profile-pythons")
    assert re.search(r"^Install it: .* dpkg\b", text, re.MULTILINE)
    assert "Debian" not in text
