"""Whether a QEMU has its sandbox, as this host's QEMU and kernel tell."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.host.architecture import ARCHITECTURES, X86_64
from bpfmatrix.vm import accelerator, boot_sector, sandbox
from tests import without_seccomp

BUILT_WITHOUT = "this QEMU was built without seccomp"


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    yield
    sandbox.obstacle.cache_clear()


def wrapper(folder: Path) -> Path:
    """Write a script that starts the host's QEMU, as some distributions install it."""
    path = folder / "qemu-system-x86_64"
    path.write_text(f'#!/bin/sh\nexec {X86_64.qemu} "$@"\n')
    path.chmod(0o755)
    return path


def asked_elsewhere(qemu: str) -> str:
    """Return the answer on a host that has no filters of system calls."""
    text = f"from bpfmatrix.vm import sandbox; print(sandbox.obstacle({qemu!r}))"
    words = without_seccomp.command([sys.executable, "-c", text])
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_the_hosts_qemu_has_a_sandbox(tmp_path: Path) -> None:
    assert sandbox.obstacle(X86_64.qemu) == ""
    assert sandbox.obstacle(str(wrapper(tmp_path))) == ""
    # QEMU itself agrees.
    subprocess.run([X86_64.qemu, *sandbox.OPTION, "-version"], check=True, capture_output=True)


def test_a_host_without_filters_has_none() -> None:
    assert (
        asked_elsewhere(X86_64.qemu) == "the host does not let programs filter their system calls"
    )
    words = [X86_64.qemu, *sandbox.OPTION, "-version"]
    done = subprocess.run(without_seccomp.command(words), capture_output=True, check=False)
    assert done.returncode == 1
    assert b"There is no option group 'sandbox'" in done.stderr


def test_a_qemu_says_in_its_file_that_it_was_built_without(tmp_path: Path) -> None:
    path = tmp_path / "qemu"
    message = b"\0-sandbox support is not enabled in this QEMU binary\0"
    for content, expected in (
        (message, BUILT_WITHOUT),
        # The message is only in the file if there is no seccomp. A QEMU that is linked
        # statically may have no names of functions.
        (b"\0seccomp_init\0", ""),
        (b"\0", ""),
    ):
        path.write_bytes(b"\x7fELF" + bytes(5000) + content)
        path.chmod(0o755)
        assert sandbox.obstacle(str(path)) == expected
        sandbox.obstacle.cache_clear()


def test_a_script_in_place_of_qemu_is_asked(tmp_path: Path) -> None:
    path = wrapper(tmp_path)
    path.write_text(path.read_text().replace('"$@"', '-no-such-option "$@"'))
    assert sandbox.obstacle(str(path)) == BUILT_WITHOUT


def test_a_qemu_that_is_missing_is_reported_where_it_is_started() -> None:
    assert sandbox.obstacle("/does/not/exist") == ""


def test_who_sets_the_option_is_left_alone() -> None:
    assert sandbox.is_set_by(("-s", "-sandbox", "off"))
    assert sandbox.is_set_by(("--sandbox", "on"))
    assert not sandbox.is_set_by(("-s", "sandbox"))


def test_a_probe_is_sandboxed() -> None:
    command = boot_sector._command(X86_64.qemu, 0, ("-accel", "kvm"))
    at = command.index("-sandbox")
    assert tuple(command[at : at + 2]) == sandbox.OPTION


def test_seccomp_has_a_number_on_each_architecture() -> None:
    assert set(sandbox._SECCOMP) == set(ARCHITECTURES)


def test_a_missing_sandbox_is_said() -> None:
    plain = accelerator.Accelerator("tcg", "asked for", unprotected=BUILT_WITHOUT)
    assert str(plain) == f"tcg (asked for; no sandbox: {BUILT_WITHOUT})"
    assert str(accelerator.Accelerator("kvm")) == "kvm"
