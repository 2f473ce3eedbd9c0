"""A further architecture is one more value: all else works with an imaginary one."""

import dataclasses
import gzip
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.cli.doctor import checks
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import PayloadError
from bpfmatrix.host.architecture import ARCHITECTURES, DEFAULT, Architecture
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.build.make import Make
from bpfmatrix.kernels.sources.apt_packages import default_pattern
from bpfmatrix.payload import go
from bpfmatrix.payload.executables import executable
from bpfmatrix.vm import accelerator, parts, template
from bpfmatrix.vm.channels import CHANNELS
from bpfmatrix.vm.launch import MachineSpec, machine_parts
from bpfmatrix.vm.parts import command
from tests.goproject import GoModule
from tests.kernels import synthetic
from tests.oci.registry import Registry, layer


@pytest.fixture
def imaginary(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    """An architecture that nothing but this value knows. Its names in Go and ELF are RISC-V's."""
    made = Architecture(
        name="imaginary",
        qemu="qemu-system-imaginary",
        qemu_package="qemu-system-dreams",
        board="cloud",
        emulated_cpu="thought",
        panic_device="pvpanic-dream",
        serial_console="ttyZZ9",
        debian="imag64",
        debian_kernel="dream-imag64",
        go="riscv64",
        kernel="imagkernel",
        kernel_folder="imag",
        compiler_prefix="imaginary-linux-gnu-",
        kernel_image="arch/imag/boot/Image.gz",
        elf_machine=243,  # EM_RISCV
        boots_vmlinux=False,
        image_magic=b"IMAG",
        emulation_parameters=("asleep",),
    )
    monkeypatch.setitem(ARCHITECTURES, made.name, made)
    return made


def kernel_of(arch: Architecture, **source: object) -> KernelConfig:
    entry = {"arch": arch.name, "source": source}
    return Config.model_validate({"kernels": {"6.1": entry}}).kernel("6.1")


def test_each_value_is_told_from_the_others() -> None:
    assert ARCHITECTURES[DEFAULT.name] == DEFAULT
    for name in (
        *("name", "qemu", "debian", "debian_kernel", "go", "kernel", "elf_machine"),
        "compiler_prefix",
    ):
        assert len({getattr(known, name) for known in ARCHITECTURES.values()}) == len(ARCHITECTURES)


def test_configuration_takes_exactly_those_that_there_are(imaginary: Architecture) -> None:
    assert kernel_of(imaginary, oci="example/6.1").arch == "imaginary"
    unknown = dataclasses.replace(imaginary, name="unknown")
    expected = "expected x86_64 or aarch64 or riscv64 or s390x or ppc64le or imaginary"
    with pytest.raises(ValueError, match=expected):
        kernel_of(unknown, oci="example/6.1")


def _spec(arch: Architecture) -> MachineSpec:
    return MachineSpec(
        arch=arch.name,
        qemu=arch.qemu,
        accelerator="tcg",
        cpus=1,
        memory_bytes=1 << 29,
        boot=Path("/k/Image"),
        initramfs=Path("/i/a.cpio"),
        payload=Path("/p/a.ext4"),
    )


def test_a_machine(imaginary: Architecture) -> None:
    spec = _spec(imaginary)
    fds = {name: number for number, name in enumerate(CHANNELS, start=10)}
    line = " ".join(command(spec.qemu, machine_parts(spec, fds)))
    assert line.startswith("qemu-system-imaginary ")
    assert " -machine cloud " in line
    assert " -cpu thought" in line
    assert " -device pvpanic-dream " in line
    assert "console=ttyZZ9" in line
    assert " asleep " in line


def test_devices_are_on_the_bus_of_the_board(
    imaginary: Architecture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine with each device that there is has none of another bus."""
    made = dataclasses.replace(imaginary, virtio_bus="ccw", panic_device=None)
    monkeypatch.setitem(ARCHITECTURES, made.name, made)
    spec = dataclasses.replace(_spec(made), network=True, root_disk=Path("/r/a.ext4"))
    folders = [parts.VirtioFs("one", 3, "ccw"), parts.NineP("two", tmp_path, False, "ccw")]
    fds = {name: number for number, name in enumerate(CHANNELS, start=10)}
    words = command(spec.qemu, machine_parts(spec, fds, *folders))
    virtio = [word for word in words if word.startswith(("virtio-", "vhost-"))]
    assert [word.split(",")[0] for word in virtio] == [
        *("vhost-user-fs-ccw", "virtio-9p-ccw", "virtio-serial-ccw"),
        *("virtio-blk-ccw", "virtio-blk-ccw", "virtio-net-ccw"),
    ]
    assert not any("pci" in word or "romfile" in word for word in words)


def test_a_kernel_that_reports_panics_by_itself_ends_qemu_with_it(
    imaginary: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = parts.Board(imaginary.name, 1)
    assert "panic=none" in board.qemu_args()
    made = dataclasses.replace(imaginary, panic_device=None)
    monkeypatch.setitem(ARCHITECTURES, made.name, made)
    assert "panic=shutdown" in board.qemu_args()
    assert "-device" not in board.qemu_args()


def test_what_can_not_be_restored_has_no_templates(
    imaginary: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert template.obstacle(_spec(imaginary)) == ""
    made = dataclasses.replace(imaginary, can_be_restored=False)
    monkeypatch.setitem(ARCHITECTURES, made.name, made)
    why = "no templates: QEMU loses the timers of a restored imaginary guest"
    assert template.obstacle(_spec(made)) == why


def test_it_is_emulated_here(imaginary: Architecture, cache: Cache) -> None:
    assert accelerator.choose("auto", imaginary.name, imaginary.qemu, cache).name == "tcg"


def test_a_package_of_debian(imaginary: Architecture) -> None:
    assert default_pattern("6.1", imaginary.name) == "linux-image-6.1.*-dream-imag64"


def test_an_image_of_a_registry(imaginary: Architecture, cache: Cache, tmp_path: Path) -> None:
    assert imaginary.image_magic is not None
    image = synthetic.arm64_image("6.1.0-9-cloud-imag64").replace(b"ARMd", imaginary.image_magic)
    with Registry(tmp_path / "registry") as registry:
        dreamt = registry.image(
            "kernels", "", [layer([("boot/vmlinuz", gzip.compress(image))])], arch="riscv64"
        )
        other = registry.image("kernels", "", [layer([("boot/vmlinuz", synthetic.bzimage())])])
        registry.index("kernels", "6.1", [other, dreamt])
        found, _ = kernels.provide(kernel_of(imaginary, oci=f"{registry.host}/kernels:6.1"), cache)
    assert (found.arch, found.release) == ("imaginary", "6.1.0-9-cloud-imag64")
    assert found.boot.read_bytes() == image
    assert not found.pvh


def test_a_kernel_s_build(imaginary: Architecture, tmp_path: Path) -> None:
    makefile = "all:\n\t@echo ARCH=$(ARCH) CROSS_COMPILE=$(CROSS_COMPILE) CC=$(CC)\n"
    (tmp_path / "Makefile").write_text(makefile)
    maker = Make(tmp_path, "6.1.9", tmp_path, imaginary.name)
    maker.run(["all"])
    said = maker.log.read_text()
    assert "ARCH=imagkernel CROSS_COMPILE=imaginary-linux-gnu- CC=" in said
    assert "imaginary-linux-gnu-gcc\n" in said
    assert maker.image == tmp_path / "arch/imag/boot/Image.gz"


def test_go_builds_tests_for_it_which_its_guests_take(
    imaginary: Architecture, library_project: Project, go_module: GoModule
) -> None:
    module = library_project.root / "support"
    module.mkdir()
    (module / "go.mod").write_text((go_module.root / "go.mod").read_text())
    (module / "a_test.go").write_text('package a\n\nimport _ "testing"\n')
    kernels = {"6.1": {"source": {"oci": "example/6.1"}}}
    payload = {"ebpf": None, "go": {"module": "support", "tags": []}}
    config = Config.model_validate({"kernels": kernels, "payload": payload})
    project = dataclasses.replace(library_project, config=config)
    [test] = go.build_tests(project, imaginary.name).tests
    binary = test.path
    assert executable(binary, imaginary.name).format == "go"
    with pytest.raises(PayloadError, match=r"built for riscv, the guest is x86_64"):
        executable(binary, DEFAULT.name)


def test_doctor_names_the_qemu_that_is_missing(
    imaginary: Architecture, library_project: Project
) -> None:
    entry = {"arch": imaginary.name, "source": {"oci": "example/6.1"}}
    config = Config.model_validate({"kernels": {"6.1": entry}})
    found = {one.name: one for one in checks(dataclasses.replace(library_project, config=config))}
    missing = found["qemu-system-imaginary"]
    assert not missing.fine
    assert missing.fix == "sudo apt-get install qemu-system-dreams"
