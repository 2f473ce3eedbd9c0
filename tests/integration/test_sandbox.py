"""QEMU's sandbox, and its sockets, in each way in which a machine is started."""

import subprocess
from pathlib import Path

import pytest

from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.vm import sandbox
from tests import without_seccomp
from tests.qemu_process import internet_sockets, is_filtered, named_sockets
from tests.tool import ToolProject, plain_environment, qemus_of, wait_until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "options", [("--cold",), (), ("--net", "user")], ids=["cold", "warm", "network"]
)
def test_no_machine_can_start_a_program_or_listens(
    project: ToolProject, options: tuple[str, ...], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    script = project.script(
        "script", f"touch {shared}/begun; while [ -e {shared}/begun ]; do sleep 0.1; done"
    )
    words = ("run", "--kernel", "6.1", "--binary", script, "--share", f"{shared}:rw", *options)
    process = project.start(*words)
    wait_until((shared / "begun").exists, "the test began")
    [qemu] = qemus_of(project)
    filtered, sockets = is_filtered(qemu), [*internet_sockets(qemu), *named_sockets(qemu)]
    (shared / "begun").unlink()
    done = project.finish(process)
    assert done.status == 0, done.output
    assert filtered
    assert sockets == []
    assert "no sandbox" not in done.output


def test_a_guest_changes_neither_its_payload_nor_its_template(
    project: ToolProject, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BPFMATRIX_CACHE", str(own_cache))
    project.script(
        "script",
        """
        ! mount -o remount,rw /payload || exit 1
        ! touch /payload/new || exit 1
        ! dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync || exit 1
        # Its memory is its own: a change that another guest would see.
        echo changed >/etc/fstab
        """,
    )
    project.run("script")  # it makes the template
    images = [*own_cache.glob("payloads/*.ext4"), *own_cache.glob("templates/*/memory")]
    before = [sha256_of(path) for path in images]
    assert len(before) == 2
    for _ in range(2):
        done, run = project.run("script")
        assert run.outcome is Outcome.PASSED, done.output
        assert run.start == "warm"
    assert [sha256_of(path) for path in images] == before


def test_a_host_without_filters_still_runs_machines_and_says_so(project: ToolProject) -> None:
    project.script("script", "true")
    words = project.command("run", "--kernel", "6.1", "--binary", "script", "--cold")
    done = subprocess.run(
        without_seccomp.command(words),
        cwd=project.root,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "no sandbox: the host does not let programs filter their system calls" in done.stdout


def test_a_user_can_turn_it_off(project: ToolProject) -> None:
    project.configure(qemu={"extra_args": ["-sandbox", "off"]})
    script = project.script("script", "sleep 60")
    process = project.start("run", "--kernel", "6.1", "--binary", script, "--cold")
    wait_until(lambda: qemus_of(project), "QEMU runs")
    command = Path(f"/proc/{qemus_of(project)[0]}/cmdline").read_bytes().split(b"\0")
    process.kill()
    project.finish(process)
    assert command.count(b"-sandbox") == 1
    assert sandbox.OPTION[1].encode() not in command
