"""The architectures of kernels and guests: one `Architecture` for each, and `ARCHITECTURES`.

A further architecture is one more value here. Nothing else holds a name that differs by
architecture, but for three parts of code that a value can't describe:

- `bpfmatrix.kernels.vmlinuz` parses the bzImage, which x86 alone has.
- `bpfmatrix.vm.accelerator` has a probe of KVM for each architecture that KVM is used for. One
  without a probe is emulated.
- `guest/c/guest.h` has the system calls of the guest's small programs for each.

`ci-kernels/arch-<name>.config` holds the options that a kernel's build needs on an architecture.
hatch_build.py runs this file outside of the package, so it imports the standard library alone.
"""

from dataclasses import dataclass

__all__ = ["AARCH64", "ARCHITECTURES", "DEFAULT", "X86_64", "Architecture"]


@dataclass(frozen=True)
class Architecture:
    """What programs, packages and file formats call one architecture, and what its guests need."""

    name: str
    """What `uname -m` prints. kernels.yaml, RPM packages and results use this name."""

    qemu: str
    """QEMU's program that runs guests of it."""
    qemu_package: str
    """The Debian package of that program."""
    board: str
    """The value of QEMU's `-machine`."""
    emulated_cpu: str
    """The value of QEMU's `-cpu` under emulation; KVM takes `host`."""
    panic_device: str
    """QEMU's device by which a kernel reports its panic (docs/specs/pvpanic.rst of QEMU)."""
    serial_console: str
    """The value of the kernel's parameter `console=` for the board's first serial port."""

    debian: str
    """Debian's name, which its packages have (`dpkg --print-architecture`)."""
    go: str
    """Go's GOARCH, which OCI images use too."""

    kernel: str
    """The variable ARCH of the kernel's make."""
    kernel_folder: str
    """The folder below `arch/` in the kernel's source tree (SRCARCH of its Makefile)."""
    compiler_prefix: str
    """The variable CROSS_COMPILE of the kernel's make: the GNU triplet, with a `-`."""
    kernel_image: str
    """The image that the kernel's make builds by default, relative to its output folder. `make
    image_name` would tell, but not before the tree is configured."""

    elf_machine: int
    """`e_machine` of ELF files (the kernel's include/uapi/linux/elf-em.h)."""
    boots_vmlinux: bool
    """Whether QEMU's `-kernel` takes the ELF file vmlinux, through its PVH entry."""
    image_magic: bytes | None
    """The bytes at offset 0x38 of an uncompressed Image; None if a kernel is no Image there
    (Documentation/arch/arm64/booting.rst and Documentation/arch/riscv/boot-image-header.rst)."""

    emulation_parameters: tuple[str, ...] = ()
    """The kernel's parameters under emulation."""
    hotplug_option: str | None = None
    """The option of a kernel that learns from the firmware when a PCI device is plugged in, which
    takes it milliseconds. With None or without the option, PCI's own way takes seconds."""

    @property
    def oci_platform(self) -> str:
        """The platform in an index of OCI images (image-index.md of the OCI image spec)."""
        return f"linux/{self.go}"


X86_64 = Architecture(
    name="x86_64",
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    board="q35,usb=off,graphics=off",
    emulated_cpu="max",
    panic_device="pvpanic",
    serial_console="ttyS0",
    debian="amd64",
    go="amd64",
    kernel="x86_64",
    kernel_folder="x86",
    compiler_prefix="x86_64-linux-gnu-",
    kernel_image="arch/x86/boot/bzImage",
    elf_machine=62,
    boots_vmlinux=True,
    image_magic=None,
    # A kernel measures the frequency of the TSC while it boots. Under emulation on a busy host,
    # Linux 7.3 measured 78 MHz instead of 2593: time ran 33 times too fast, also in each machine
    # that was restored from this one, and limits ran out at once. With an unstable TSC the kernel
    # uses the HPET, which QEMU keeps right.
    emulation_parameters=("tsc=unstable",),
    hotplug_option="CONFIG_HOTPLUG_PCI_ACPI",
)

AARCH64 = Architecture(
    name="aarch64",
    qemu="qemu-system-aarch64",
    qemu_package="qemu-system-arm",
    board="virt",
    # `max` has pointer authentication, which is slow to emulate.
    emulated_cpu="cortex-a72",
    panic_device="pvpanic-pci",
    serial_console="ttyAMA0",
    debian="arm64",
    go="arm64",
    kernel="arm64",
    kernel_folder="arm64",
    compiler_prefix="aarch64-linux-gnu-",
    kernel_image="arch/arm64/boot/Image.gz",
    elf_machine=183,
    boots_vmlinux=False,
    image_magic=b"ARMd",
)

DEFAULT = X86_64
"""The architecture of kernels for which kernels.yaml names none."""

ARCHITECTURES = {known.name: known for known in (X86_64, AARCH64)}
"""All architectures, by their names."""
