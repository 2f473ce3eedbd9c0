"""The fingerprint of a run: what changes it, and what does not."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.payload.model import Executable, Payload
from bpfmatrix.session import fingerprint as session_fingerprint
from bpfmatrix.session.host_files import HostFilesPlan
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.suite import fingerprint
from bpfmatrix.virtiofs.shares import HostFolder
from bpfmatrix.vm.accelerator import Accelerator
from bpfmatrix.vm.launch import MachineSpec
from bpfmatrix.vm.protocol import UNLIMITED_MEMLOCK, Start, TestCommand

TEST = Executable(Path("payload"), "plain")


@dataclass(frozen=True)
class PreparedRun:
    """A prepared kernel with the commands that it is given, each with its test."""

    prepared: Prepared
    commands: tuple[tuple[Executable, TestCommand], ...]

    @property
    def fingerprint(self) -> str | None:
        return fingerprint.fingerprint(self.prepared, self.commands)


@pytest.fixture
def run(library_project: Project, tmp_path: Path) -> PreparedRun:
    """A run of one test on 6.1, whose QEMU and payload are files of the test."""
    for name in ("qemu", "payload"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o755)
    image = KernelImage(
        arch="x86_64",
        release="6.1.0-56-cloud-amd64",
        version="6.1.192",
        digest="sha256:00",
        boot=Path("/kernels/6.1/vmlinux"),
        pvh=True,
        vmlinuz=Path("/kernels/6.1/vmlinuz"),
        modules=None,
        provenance=Provenance("apt bookworm-security", ()),
    )
    spec = MachineSpec(
        qemu=str(tmp_path / "qemu"),
        arch="x86_64",
        accelerator="tcg",
        cpus=2,
        memory_bytes=512 << 20,
        boot=image.boot,
        initramfs=Path("/initramfs/0.cpio"),
        payload=tmp_path / "payload",
    )
    ready = Prepared(
        library_project.config.kernel("6.1"),
        image,
        Accelerator("tcg"),
        spec,
        payload=Payload(()),
        payload_id="0123",
        env={"A": "b"},
        host_files=HostFilesPlan(),
    )
    return PreparedRun(ready, ((TEST, TestCommand(1, ("/payload/payload",), 120.0)),))


def spec(**other: Any) -> Callable[[PreparedRun], PreparedRun]:
    return lambda run: with_prepared(run, spec=replace(run.prepared.spec, **other))


def with_prepared(run: PreparedRun, **other: Any) -> PreparedRun:
    return replace(run, prepared=replace(run.prepared, **other))


def command(**other: Any) -> Callable[[PreparedRun], PreparedRun]:
    def changed(run: PreparedRun) -> PreparedRun:
        [(test, command)] = run.commands
        return replace(run, commands=((test, replace(command, **other)),))

    return changed


def timeout(**other: str) -> Callable[[PreparedRun], PreparedRun]:
    config = Config.model_validate(
        {"kernels": {"6.1": {"source": {"oci": "example/6.1"}, "timeout": other}}}
    )
    return lambda run: with_prepared(run, kernel=config.kernel("6.1"))


def expecting(**expectation: str) -> Callable[[PreparedRun], PreparedRun]:
    config = Config.model_validate(
        {"kernels": {"6.1": {"source": {"oci": "example/6.1"}}}, "expect": [expectation]}
    )
    return lambda run: with_prepared(run, kernel=config.kernel("6.1"))


def test_the_same_run_has_the_same_fingerprint(run: PreparedRun) -> None:
    assert run.fingerprint
    assert run.fingerprint == replace(run, prepared=replace(run.prepared)).fingerprint


def test_the_random_boundary_of_the_output_does_not_count(run: PreparedRun) -> None:
    assert command(boundary=b"x" * 32)(run).fingerprint == run.fingerprint


def test_an_expectation_that_expired_does_not_count(run: PreparedRun) -> None:
    expired = expecting(test="a", reason="known", until="2020-01-01")
    assert expired(run).fingerprint == run.fingerprint


def test_a_run_that_sees_the_hosts_files_has_no_fingerprint(
    run: PreparedRun, tmp_path: Path
) -> None:
    folder = HostFolder("host1", tmp_path, False, "virtiofs", 1.0)
    assert spec(folders=(folder,))(run).fingerprint is None


def test_a_run_with_a_network_has_no_fingerprint(run: PreparedRun) -> None:
    assert spec(network=True)(run).fingerprint is None


CHANGES: dict[str, Callable[[PreparedRun], PreparedRun]] = {
    "payload": lambda run: with_prepared(run, payload_id="4567"),
    "argument": command(argv=("/payload/payload", "-v")),
    "limit": command(limit_seconds=60.0),
    "user": command(start=Start(user="nobody")),
    "capabilities": command(start=Start(capabilities=0)),
    "memlock": command(start=Start(limits=UNLIMITED_MEMLOCK)),
    "token": command(start=Start(token=True)),
    "folder": command(start=Start("/tmp")),
    "format": lambda run: replace(
        run, commands=tuple((replace(test, format="tap"), each) for test, each in run.commands)
    ),
    "lockdown": lambda run: with_prepared(run, privileges=(("lockdown", "integrity"),)),
    "env": lambda run: with_prepared(run, env={"A": "c"}),
    "no env": lambda run: with_prepared(run, env={}),
    "one test more": lambda run: replace(run, commands=run.commands * 2),
    "no test": lambda run: replace(run, commands=()),
    "kernel": spec(boot=Path("/kernels/6.1-other/vmlinux")),
    "initramfs": spec(initramfs=Path("/initramfs/1.cpio")),
    "kernel_args": spec(kernel_args=("quiet",)),
    "extra_args": spec(extra_args=("-no-hpet",)),
    "memory": spec(memory_bytes=1 << 30),
    "cpus": spec(cpus=1),
    "accelerator": spec(accelerator="kvm"),
    "timeout.run": timeout(run="10s"),
    "timeout.boot": timeout(boot="10s"),
    "expect": expecting(test="a", reason="known"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_shapes_a_run_changes_its_fingerprint(
    run: PreparedRun, change: Callable[[PreparedRun], PreparedRun]
) -> None:
    assert change(run).fingerprint not in (run.fingerprint, None)


def test_another_qemu_changes_the_fingerprint(run: PreparedRun) -> None:
    before = run.fingerprint
    os.utime(run.prepared.spec.qemu, (0, 0))
    assert run.fingerprint != before


def test_another_version_of_bpfmatrix_changes_the_fingerprint(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run.fingerprint
    monkeypatch.setattr(session_fingerprint, "__version__", "99")
    assert run.fingerprint != before


@pytest.mark.parametrize(("name", "counts"), [("run.py", True), ("guest/init", False)])
def test_other_code_of_bpfmatrix_changes_the_fingerprint(
    run: PreparedRun,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    counts: bool,
) -> None:
    # The guest's scripts are part of the initramfs, whose name is a checksum of its content.
    package = tmp_path / "package"
    (package / "guest").mkdir(parents=True)
    (package / name).write_text("")
    monkeypatch.setattr(session_fingerprint, "PACKAGE", package)
    before = run.fingerprint
    os.utime(package / name, (0, 0))
    assert (run.fingerprint != before) is counts
