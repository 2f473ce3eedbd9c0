"""The parts of a machine: each gives its arguments for QEMU, and its parameters for the kernel.

A machine is a tuple of parts, and `command` makes QEMU's command line of them. File descriptors are
those of sockets that the process of QEMU inherits.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.vm import sandbox

__all__ = [
    "Board",
    "Console",
    "CoreInfo",
    "Debugger",
    "Disk",
    "ExtraArguments",
    "Incoming",
    "Kernel",
    "Memory",
    "Monitor",
    "NineP",
    "Part",
    "Ports",
    "Processor",
    "Sandbox",
    "Slots",
    "UserNetwork",
    "VirtioFs",
    "command",
]


class Part:
    """A part of a machine; by itself it adds nothing."""

    def qemu_args(self) -> list[str]:
        """Return the arguments that this part adds to QEMU's command line."""
        return []

    def kernel_args(self) -> list[str]:
        """Return the parameters that this part adds to the kernel's command line."""
        return []


@dataclass(frozen=True)
class Board(Part):
    """The board with this number of processors, and without any default device."""

    arch: str
    cpus: int
    stays: bool = False
    """Whether QEMU stays when the guest has ended, so that its memory can be dumped."""

    def qemu_args(self) -> list[str]:
        """See Part."""
        return [
            # A machine starts faster without default devices and option ROMs.
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", ARCHITECTURES[self.arch].board),
            *("-smp", str(self.cpus)),
            # A panic ends in a reboot (panic=-1), and a reboot ends QEMU (-no-reboot).
            "-no-reboot",
            *self._panic_args(),
            # Not at the panic: a debugger does not find its way out of the driver of pvpanic, which
            # is a module, and the kernel's log has no stack yet.
            *(("-action", "shutdown=pause") if self.stays else ()),
        ]

    def _panic_args(self) -> list[str]:
        device = ARCHITECTURES[self.arch].panic_device
        if device is None:
            # The kernel has printed its stack when it reports the panic, and may never reboot.
            return ["-action", "panic=shutdown"]
        # QEMU must not end at pvpanic's event, because the kernel prints its stack after that.
        return ["-action", "panic=none", "-device", device]

    def kernel_args(self) -> list[str]:
        """See Part."""
        return ["panic=-1"]


@dataclass(frozen=True)
class CoreInfo(Part):
    """The device to which the kernel tells what a debugger needs to read a dump of the memory."""

    def qemu_args(self) -> list[str]:
        """See Part."""
        return ["-device", "vmcoreinfo"]


@dataclass(frozen=True)
class Memory(Part):
    """The guest's memory: anonymous memory, or a file that is mapped.

    If it is `shared`, the guest's writes go to the file. If it is not, the file is mapped
    copy-on-write: any number of machines can start with its content, and none changes it. Memory
    that is `shared` without a file can be mapped by the server of a device.
    """

    size_bytes: int
    file: Path | None = None
    shared: bool = False

    def qemu_args(self) -> list[str]:
        """See Part."""
        size = f"{self.size_bytes >> 20}M"
        share = "on" if self.shared else "off"
        if self.file is None and not self.shared:
            return ["-m", size]
        if self.file is None:
            backend = f"memory-backend-memfd,id=mem,size={size},share=on"
            return ["-m", size, "-object", backend, "-machine", "memory-backend=mem"]
        file = _value(self.file)
        backend = f"memory-backend-file,id=mem,size={size},share={share},mem-path={file}"
        return ["-m", size, "-object", backend, "-machine", "memory-backend=mem"]


@dataclass(frozen=True)
class Incoming(Part):
    """Makes QEMU wait for a saved state (QMP's migrate-incoming) instead of starting the guest."""

    def qemu_args(self) -> list[str]:
        """See Part."""
        return ["-incoming", "defer"]


@dataclass(frozen=True)
class Processor(Part):
    """The model of the processors, and the accelerator that runs them: `kvm` or `tcg`."""

    arch: str
    accelerator: str
    clock_khz: int = 0
    """The frequency of the processor's clock, which the kernel is told; 0 if it is not told."""

    def qemu_args(self) -> list[str]:
        """See Part."""
        # With one thread for each processor, a processor may still run code that another one has
        # just patched. The kernel then dies of the int3 that it had put there during the patching,
        # or hangs. This happened in 2 of 60 boots of Linux 7.3 under QEMU 7.2, and in none of 80
        # boots with a single thread, which took no longer.
        accel = "tcg,thread=single" if self.accelerator == "tcg" else self.accelerator
        cpu = "host" if self.accelerator == "kvm" else ARCHITECTURES[self.arch].emulated_cpu
        return ["-accel", accel, "-cpu", cpu]

    def kernel_args(self) -> list[str]:
        """See Part."""
        if self.accelerator != "tcg":
            return []
        architecture = ARCHITECTURES[self.arch]
        if not self.clock_khz:
            return list(architecture.emulation_parameters)
        return [p.format(khz=self.clock_khz) for p in architecture.known_frequency_parameters]


@dataclass(frozen=True)
class Kernel(Part):
    """The kernel, its initramfs, and the user's parameters."""

    boot: Path
    initramfs: Path
    arguments: tuple[str, ...] = ()

    def qemu_args(self) -> list[str]:
        """See Part."""
        return ["-kernel", str(self.boot), "-initrd", str(self.initramfs)]

    def kernel_args(self) -> list[str]:
        """See Part."""
        return ["rdinit=/init", *self.arguments]


@dataclass(frozen=True)
class Console(Part):
    """The kernel's console, on the first serial port."""

    arch: str
    fd: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        return ["-chardev", f"socket,id=console,fd={self.fd}", "-serial", "chardev:console"]

    def kernel_args(self) -> list[str]:
        """See Part."""
        return [f"console={ARCHITECTURES[self.arch].serial_console}"]


@dataclass(frozen=True)
class Ports(Part):
    """Named virtio ports between host and guest, which the guest has as `/dev/vport*`."""

    fds: tuple[tuple[str, int], ...]
    bus: str = "pci"

    def qemu_args(self) -> list[str]:
        """See Part."""
        arguments = ["-device", f"virtio-serial-{self.bus}"]
        for number, (name, fd) in enumerate(self.fds):
            arguments += ["-chardev", f"socket,id=port{number},fd={fd}"]
            arguments += ["-device", f"virtserialport,chardev=port{number},name={name}"]
        return arguments


@dataclass(frozen=True)
class Disk(Part):
    """A read-only disk. The guest has the first one as `/dev/vda`, the next one as `/dev/vdb`."""

    name: str
    image: Path
    bus: str = "pci"

    def qemu_args(self) -> list[str]:
        """See Part."""
        file = _value(self.image)
        return [
            *("-drive", f"if=none,id={self.name},format=raw,readonly=on,file={file}"),
            *("-device", f"virtio-blk-{self.bus},drive={self.name}"),
        ]


@dataclass(frozen=True)
class VirtioFs(Part):
    """A folder of the host, served over virtiofs by the process at the other end of a socket.

    That process maps the guest's memory, so the memory must be `shared`.
    """

    tag: str
    fd: int
    bus: str = "pci"

    def qemu_args(self) -> list[str]:
        """See Part."""
        device = ",".join(f"{key}={value}" for key, value in self.device.items())
        chardev = f"socket,id={self.tag},fd={self.fd}"
        return ["-chardev", chardev, "-device", device.removeprefix("driver=")]

    @property
    def device(self) -> dict[str, object]:
        """The arguments of QMP's device_add, without the bus; `chardev` must be added before."""
        return {
            "driver": f"vhost-user-fs-{self.bus}",
            "id": f"{self.tag}-device",
            "chardev": self.tag,
            "tag": self.tag,
            "queue-size": 1024,
        }

    @property
    def chardev(self) -> dict[str, object]:
        """The arguments of QMP's chardev-add, after a getfd whose name is the tag."""
        address = {"type": "fd", "data": {"str": self.tag}}
        return {
            "id": self.tag,
            "backend": {"type": "socket", "data": {"addr": address, "server": False}},
        }


@dataclass(frozen=True)
class Slots(Part):
    """Slots into which devices can be plugged while the guest runs: `slot0`, `slot1`, ..."""

    count: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        ports = (f"pcie-root-port,id=slot{n},chassis={n}" for n in range(self.count))
        return [word for port in ports for word in ("-device", port)]


@dataclass(frozen=True)
class NineP(Part):
    """A folder of the host, served over 9p by QEMU itself."""

    tag: str
    path: Path
    writable: bool
    bus: str = "pci"

    def qemu_args(self) -> list[str]:
        """See Part."""
        # `none`: files that the guest creates belong to the user who runs QEMU, and a failing chown
        # is ignored. `remap`: files of several file systems may have the same inode number.
        mode = "off" if self.writable else "on"
        shared = f"local,id={self.tag},path={_value(self.path)},security_model=none"
        return [
            *("-fsdev", f"{shared},readonly={mode},multidevs=remap"),
            *("-device", f"virtio-9p-{self.bus},fsdev={self.tag},mount_tag={self.tag}"),
        ]


@dataclass(frozen=True)
class UserNetwork(Part):
    """A network card with QEMU's user-mode network, which needs no privileges.

    The guest has the address 10.0.2.15. 10.0.2.2 leads to the host's loopback interface, and
    10.0.2.3 is a name server (QEMU's documentation of `-netdev user`).
    """

    bus: str = "pci"

    def qemu_args(self) -> list[str]:
        """See Part."""
        # No option ROM: it is only needed to boot from the network.
        rom = ",romfile=" if self.bus == "pci" else ""
        card = f"virtio-net-{self.bus},netdev=net{rom}"
        return ["-netdev", "user,id=net,ipv6=off", "-device", card]


@dataclass(frozen=True)
class Monitor(Part):
    """QEMU's monitor, which speaks QMP."""

    fd: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        return ["-chardev", f"socket,id=qmp,fd={self.fd}", "-mon", "chardev=qmp,mode=control"]


@dataclass(frozen=True)
class Sandbox(Part):
    """A filter of system calls, with which QEMU can't start any program: see `vm.sandbox`."""

    def qemu_args(self) -> list[str]:
        """See Part."""
        return list(sandbox.OPTION)


@dataclass(frozen=True)
class Debugger(Part):
    """Lets gdb connect to a listening socket.

    Whoever connects also has QEMU's monitor (the packet `qRcmd`).
    """

    fd: int
    tcp: bool = False
    """Whether the socket is one of TCP, and not a Unix socket."""
    held: bool = True
    """Whether the guest does not run its first instruction until gdb continues it."""

    def qemu_args(self) -> list[str]:
        """See Part."""
        delay = ",nodelay=on" if self.tcp else ""
        listening = f"socket,id=gdb,fd={self.fd},server=on,wait=off{delay}"
        waiting = ["-S"] if self.held else []
        return ["-chardev", listening, "-gdb", "chardev:gdb", *waiting]


@dataclass(frozen=True)
class ExtraArguments(Part):
    """The arguments that the user adds to QEMU's command line."""

    arguments: tuple[str, ...]

    def qemu_args(self) -> list[str]:
        """See Part."""
        return list(self.arguments)


def _value(path: Path) -> str:
    # In the value of an option, QEMU takes a doubled comma as one comma.
    return str(path).replace(",", ",,")


def command(qemu: str, parts: Sequence[Part]) -> list[str]:
    """Return QEMU's command line for a machine."""
    words = [argument for part in parts for argument in part.qemu_args()]
    return [qemu, *words, "-append", _kernel_command_line(parts)]


def _kernel_command_line(parts: Iterable[Part]) -> str:
    return " ".join(_kernel_word(word) for part in parts for word in part.kernel_args())


def _kernel_word(argument: str) -> str:
    # The kernel splits its command line at spaces, unless they are in double quotes (next_arg() in
    # lib/cmdline.c). A double quote itself can't be quoted.
    name, equals, value = argument.partition("=")
    if " " in value and " " not in name and '"' not in value:
        return f'{name}{equals}"{value}"'
    return argument


def shown(words: Sequence[str]) -> str:
    """Return a command line quoted for a shell."""
    return shlex.join(words)
