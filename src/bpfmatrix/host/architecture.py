"""The architectures of kernels and guests: one `Architecture` for each, and `ARCHITECTURES`.

To add an architecture, add a value here, and `ci-kernels/arch-<name>.config` with the options that
a kernel's build needs on it. Other code depends on the architecture in these places only, where
values are not enough:

- `bpfmatrix.kernels.formats.vmlinuz` parses the images of kernels, such as the bzImage of x86 and
  that of s390x.
- `bpfmatrix.vm.accelerator` has a guest that probes KVM for each architecture. Without a probe,
  guests are emulated.
- `bpfmatrix.kernels.symbols.call_trace` knows how a kernel prints its instruction pointer.
- `bpfmatrix.virtiofs.fuse` passes on those flags of open(2) that all architectures share.
- `guest/c/guest.h` has the system calls that the guest's small programs need.
- `bpfmatrix.vm.sandbox` has the number of seccomp(2), for hosts of this architecture.
- `bpfmatrix.vm.dump` names those on which a kernel tells QEMU where it is in the memory, and
  `bpfmatrix.kernels.formats.guest_core` reads their page tables.
- `bpfmatrix.payload.loaders.aya_loader` names those for which loader-aya makes system calls.
- `bpfmatrix.payload.loaders.sysroot` names the suite of Debian whose libraries a loader is linked
  with.

hatch_build.py runs this file outside the package, so it imports only the standard library.
"""

from dataclasses import dataclass

__all__ = [
    "AARCH64",
    "ARCHITECTURES",
    "DEFAULT",
    "PPC64LE",
    "RISCV64",
    "S390X",
    "X86_64",
    "Architecture",
]


@dataclass(frozen=True)
class Architecture:
    """The names of one architecture in programs, packages and file formats, and its machine."""

    name: str
    """What `uname -m` prints. kernels.yaml, RPM packages and results use this name."""

    qemu: str
    """QEMU's program for guests of this architecture."""
    qemu_package: str
    """The Debian package of that program, or the name that it provides."""
    board: str
    """The value of QEMU's `-machine`."""
    emulated_cpu: str
    """The value of QEMU's `-cpu` under emulation; KVM takes `host`."""
    panic_device: str | None
    """QEMU's device through which a kernel reports a panic (docs/specs/pvpanic.rst of QEMU). None
    if each kernel reports it without a device: on s390x by the state in which it leaves the
    processor (a disabled wait), on ppc64le by a call of the firmware (`ibm,os-term`)."""
    serial_console: str
    """The value of the kernel's parameter `console=` for the board's first serial port."""

    debian: str
    """The name in Debian's packages (`dpkg --print-architecture`)."""
    debian_kernel: str
    """The end of the names of Debian's kernel packages, `linux-image-<release>-<this>`: the flavour
    for virtual machines if there is one, or else the flavour for all machines."""
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
    image_name` prints it only after the tree is configured."""

    elf_machine: int
    """`e_machine` of ELF files (the kernel's include/uapi/linux/elf-em.h)."""
    boots_vmlinux: bool
    """Whether QEMU's `-kernel` takes the ELF file vmlinux, on x86_64 through its PVH entry."""
    image_magic: bytes | None
    """The bytes at offset 0x38 of an uncompressed Image; None if kernels do not have that format
    (Documentation/arch/arm64/booting.rst and Documentation/arch/riscv/boot-image-header.rst)."""

    big_endian: bool = False
    """Whether the first byte of a number in memory is the highest one."""
    can_be_restored: bool = True
    """Whether a guest goes on when QEMU restores its saved state. With QEMU 7.2, no timer ever
    interrupts a restored guest of riscv64 or ppc64le: it hangs as soon as it waits for one."""
    virtio_bus: str = "pci"
    """The bus of the board's virtio devices: the end of their names in QEMU, and of their driver's
    name in the kernel."""
    emulation_parameters: tuple[str, ...] = ()
    """The kernel parameters that emulation needs."""
    known_frequency_parameters: tuple[str, ...] = ()
    """Those that replace them for kernels that can be told the frequency of the processor's clock:
    `{khz}` stands for it. Empty if kernels need not be told."""
    hotplug_option: str | None = None
    """The kernel option with which the firmware reports a hot-plugged PCI device, which takes
    milliseconds. If it is None, or the kernel lacks it, PCI's own hotplug takes seconds."""

    @property
    def gnu_triplet(self) -> str:
        """The target of clang, which looks for libraries in folders of this name."""
        return self.compiler_prefix.removesuffix("-")

    @property
    def oci_platform(self) -> str:
        """The platform in an index of OCI images (image-index.md of the OCI image spec)."""
        return f"linux/{self.go}"


X86_64 = Architecture(
    name="x86_64",
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    board="q35,usb=off,graphics=off",
    # Without invtsc, a kernel times the delays of each further CPU against its ticks. These come
    # in bursts, as all CPUs share a thread of the host: on 5.10 and 6.1, mdelay(1000) took 45 ms
    # there, and on 6.12 any time. With it, the CPU takes over the rate of the first one, and under
    # emulation both are the same. QEMU 7.2 does not offer this feature, so it is forced.
    emulated_cpu="max,+invtsc,x-force-features=on,check=off",
    panic_device="pvpanic",
    serial_console="ttyS0",
    debian="amd64",
    debian_kernel="cloud-amd64",
    go="amd64",
    kernel="x86_64",
    kernel_folder="x86",
    compiler_prefix="x86_64-linux-gnu-",
    kernel_image="arch/x86/boot/bzImage",
    elf_machine=62,
    boots_vmlinux=True,
    image_magic=None,
    # A kernel measures the frequency of the TSC while it boots. Under emulation on a busy host,
    # Linux 7.3 measured 78 MHz instead of 2593 MHz. Time then ran 33 times too fast in that machine
    # and in each one restored from it, and time limits expired at once. So kernels are told the
    # frequency. Those that can't be told use the HPET, which QEMU emulates correctly but slowly.
    # A kernel also tests whether the timer interrupts it while it waits. On a busy host, 5.10 found
    # that it does not, and panicked: "IO-APIC + timer doesn't work!".
    emulation_parameters=("tsc=unstable", "no_timer_check"),
    known_frequency_parameters=("tsc=reliable", "tsc_early_khz={khz}", "no_timer_check"),
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
    debian_kernel="cloud-arm64",
    go="arm64",
    kernel="arm64",
    kernel_folder="arm64",
    compiler_prefix="aarch64-linux-gnu-",
    kernel_image="arch/arm64/boot/Image.gz",
    elf_machine=183,
    boots_vmlinux=False,
    image_magic=b"ARMd",
)

RISCV64 = Architecture(
    name="riscv64",
    qemu="qemu-system-riscv64",
    qemu_package="qemu-system-riscv64",
    board="virt",
    emulated_cpu="rv64",
    panic_device="pvpanic-pci",
    serial_console="ttyS0",
    debian="riscv64",
    debian_kernel="riscv64",
    go="riscv64",
    kernel="riscv",
    kernel_folder="riscv",
    compiler_prefix="riscv64-linux-gnu-",
    kernel_image="arch/riscv/boot/Image.gz",
    elf_machine=243,
    boots_vmlinux=False,
    image_magic=b"RSC\x05",
    can_be_restored=False,
)

S390X = Architecture(
    name="s390x",
    qemu="qemu-system-s390x",
    qemu_package="qemu-system-s390x",
    board="s390-ccw-virtio",
    emulated_cpu="max",
    panic_device=None,
    serial_console="ttysclp0",
    debian="s390x",
    debian_kernel="s390x",
    go="s390x",
    kernel="s390",
    kernel_folder="s390",
    compiler_prefix="s390x-linux-gnu-",
    kernel_image="arch/s390/boot/bzImage",
    elf_machine=22,
    boots_vmlinux=False,
    image_magic=None,
    big_endian=True,
    virtio_bus="ccw",
)

PPC64LE = Architecture(
    name="ppc64le",
    qemu="qemu-system-ppc64",
    qemu_package="qemu-system-ppc",
    # Virtual Open Firmware is a part of QEMU. The default, SLOF, runs in the guest, and slowly.
    board="pseries,x-vof=on,usb=off",
    emulated_cpu="power9",
    panic_device=None,
    serial_console="hvc0",
    debian="ppc64el",
    debian_kernel="powerpc64le",
    go="ppc64le",
    kernel="powerpc",
    kernel_folder="powerpc",
    compiler_prefix="powerpc64le-linux-gnu-",
    kernel_image="vmlinux",
    elf_machine=21,
    boots_vmlinux=True,
    image_magic=None,
    can_be_restored=False,
)

DEFAULT = X86_64
"""The architecture of kernels that have no `arch` in kernels.yaml."""

ARCHITECTURES = {known.name: known for known in (X86_64, AARCH64, RISCV64, S390X, PPC64LE)}
"""All architectures, by their names."""
