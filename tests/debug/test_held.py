"""How a machine for gdb is started: what decides between its template and a boot."""

from dataclasses import replace
from pathlib import Path

import pytest

from bpfmatrix.debug.held import why_cold
from bpfmatrix.virtiofs.shares import HostFolder
from bpfmatrix.vm.launch import MachineSpec

SPEC = MachineSpec(
    qemu="qemu-system-x86_64",
    arch="x86_64",
    accelerator="tcg",
    cpus=2,
    memory_bytes=512 << 20,
    boot=Path("/kernels/6.1/vmlinux"),
    initramfs=Path("/initramfs/0.cpio"),
    payload=Path("/payloads/0"),
)


def with_folders(slots: int) -> MachineSpec:
    return replace(
        SPEC, folders=(HostFolder("share", Path("/src"), False, "virtiofs", 1.0),), slots=slots
    )


@pytest.mark.parametrize(
    ("asked", "initial", "spec", "reason"),
    [
        (False, (), SPEC, ""),
        (True, (), SPEC, "--cold"),
        (False, ("start_kernel",), SPEC, "start_kernel runs only while the kernel boots"),
        (
            *(False, ("start_kernel", "init/main.c:945"), SPEC),
            "start_kernel, init/main.c:945 run only while the kernel boots",
        ),
        (True, ("start_kernel",), SPEC, "--cold"),
        (False, (), with_folders(1), ""),
        (False, (), with_folders(0), "a restored machine has no place for the folders of the host"),
    ],
)
def test_why_a_machine_is_booted(
    asked: bool, initial: tuple[str, ...], spec: MachineSpec, reason: str
) -> None:
    assert why_cold(asked, initial, spec) == reason


def test_an_architecture_without_templates_is_booted() -> None:
    assert "riscv64" in why_cold(False, (), replace(SPEC, arch="riscv64"))
