"""The parts of a machine. Each says its arguments for QEMU and its parameters for the kernel.

A machine is a tuple of parts; `command` and `kernel_command_line` put them together, and nothing
else does. File descriptors are those of sockets that the process of QEMU inherits.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = [
    "Accelerator",
    "Board",
    "Console",
    "Debugger",
    "ExtraArguments",
    "Incoming",
    "Kernel",
    "Memory",
    "Monitor",
    "NineP",
    "Part",
    "PayloadDisk",
    "Ports",
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
    """The board, its processors, and nothing that was not asked for."""

    arch: str
    cpus: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        return [
            # Without its default devices and option ROMs a machine starts faster.
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", ARCHITECTURES[self.arch].board),
            *("-smp", str(self.cpus)),
            # A reboot of the guest, which a panic ends in, ends QEMU; a panic alone does not,
            # for QEMU would then end before the kernel has printed its last words.
            *("-no-reboot", "-action", "panic=none"),
            *("-device", ARCHITECTURES[self.arch].panic_device),
        ]

    def kernel_args(self) -> list[str]:
        """See Part."""
        return ["panic=-1"]


@dataclass(frozen=True)
class Memory(Part):
    """The guest's memory: nobody else's, or a file's.

    A `shared` file takes what the guest writes; one that is not is mapped copy-on-write, so that
    any number of machines can begin with its content and none changes it. `shared` without a file
    is memory that a process which serves a device may map too.
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
    """Makes QEMU wait for a saved state instead of starting the guest."""

    def qemu_args(self) -> list[str]:
        """See Part."""
        return ["-incoming", "defer"]


@dataclass(frozen=True)
class Accelerator(Part):
    """What runs the guest's instructions: `kvm` or `tcg` (emulation)."""

    arch: str
    name: str

    def qemu_args(self) -> list[str]:
        """See Part."""
        # With a thread for each processor, one may still run what another has just patched: the
        # kernel then dies of an int3 that it had put there for that moment, or hangs. Seen in 2 of
        # 60 boots of 7.3 by QEMU 7.2, in none of 80 with one thread, which took no longer.
        accel = "tcg,thread=single" if self.name == "tcg" else self.name
        cpu = "host" if self.name == "kvm" else ARCHITECTURES[self.arch].emulated_cpu
        return ["-accel", accel, "-cpu", cpu]

    def kernel_args(self) -> list[str]:
        """See Part."""
        return [*ARCHITECTURES[self.arch].emulation_parameters] if self.name == "tcg" else []


@dataclass(frozen=True)
class Kernel(Part):
    """The kernel, what it starts from, and parameters of the user's."""

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
    """The kernel's console, on a serial port."""

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
    """Named channels between host and guest, which the guest has as `/dev/vport*`."""

    fds: tuple[tuple[str, int], ...]

    def qemu_args(self) -> list[str]:
        """See Part."""
        arguments = ["-device", "virtio-serial-pci"]
        for number, (name, fd) in enumerate(self.fds):
            arguments += ["-chardev", f"socket,id=port{number},fd={fd}"]
            arguments += ["-device", f"virtserialport,chardev=port{number},name={name}"]
        return arguments


@dataclass(frozen=True)
class PayloadDisk(Part):
    """A read-only disk."""

    image: Path

    def qemu_args(self) -> list[str]:
        """See Part."""
        file = _value(self.image)
        return [
            *("-drive", f"if=none,id=payload,format=raw,readonly=on,file={file}"),
            *("-device", "virtio-blk-pci,drive=payload"),
        ]


@dataclass(frozen=True)
class VirtioFs(Part):
    """A folder of the host, which a process at the other end of a socket serves.

    That process maps the guest's memory, which has to be `shared`.
    """

    tag: str
    fd: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        device = ",".join(f"{key}={value}" for key, value in self.device.items())
        chardev = f"socket,id={self.tag},fd={self.fd}"
        return ["-chardev", chardev, "-device", device.removeprefix("driver=")]

    @property
    def device(self) -> dict[str, object]:
        """What QMP's device_add takes, but for the place; see also `chardev`."""
        return {
            "driver": "vhost-user-fs-pci",
            "id": f"{self.tag}-device",
            "chardev": self.tag,
            "tag": self.tag,
            "queue-size": 1024,
        }

    @property
    def chardev(self) -> dict[str, object]:
        """What QMP's chardev-add takes, after a getfd by the name of the tag."""
        address = {"type": "fd", "data": {"str": self.tag}}
        return {
            "id": self.tag,
            "backend": {"type": "socket", "data": {"addr": address, "server": False}},
        }


@dataclass(frozen=True)
class Slots(Part):
    """Slots for devices that come while the guest runs, `slot0` and so on."""

    count: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        ports = (f"pcie-root-port,id=slot{n},chassis={n}" for n in range(self.count))
        return [word for port in ports for word in ("-device", port)]


@dataclass(frozen=True)
class NineP(Part):
    """A folder of the host, which QEMU itself serves over 9p."""

    tag: str
    path: Path
    writable: bool

    def qemu_args(self) -> list[str]:
        """See Part."""
        # `none`: what the guest makes belongs to the user who runs QEMU, and that it can't be given
        # to others is no error. `remap`: files of several file systems may have one inode number.
        mode = "off" if self.writable else "on"
        shared = f"local,id={self.tag},path={_value(self.path)},security_model=none"
        return [
            *("-fsdev", f"{shared},readonly={mode},multidevs=remap"),
            *("-device", f"virtio-9p-pci,fsdev={self.tag},mount_tag={self.tag}"),
        ]


@dataclass(frozen=True)
class UserNetwork(Part):
    """A network card behind which QEMU itself makes the guest's connections, without rights.

    The guest has 10.0.2.15, the host is 10.0.2.2 and answers as its loopback, a name server is
    10.0.2.3 (QEMU's documentation of `-netdev user`).
    """

    def qemu_args(self) -> list[str]:
        """See Part."""
        # Without the option ROM, which is for booting from the network.
        card = "virtio-net-pci,netdev=net,romfile="
        return ["-netdev", "user,id=net,ipv6=off", "-device", card]


@dataclass(frozen=True)
class Monitor(Part):
    """QEMU's own control channel, which speaks QMP."""

    fd: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        return ["-chardev", f"socket,id=qmp,fd={self.fd}", "-mon", "chardev=qmp,mode=control"]


@dataclass(frozen=True)
class Debugger(Part):
    """Lets gdb in, by a socket that listens already; the guest stands still until gdb lets it go.

    The kernel then lies where its symbols say, and not at random.
    """

    fd: int

    def qemu_args(self) -> list[str]:
        """See Part."""
        listening = f"socket,id=gdb,fd={self.fd},server=on,wait=off,nodelay=on"
        return ["-chardev", listening, "-gdb", "chardev:gdb", "-S"]

    def kernel_args(self) -> list[str]:
        """See Part."""
        return ["nokaslr"]


@dataclass(frozen=True)
class ExtraArguments(Part):
    """What the user adds to QEMU's command line."""

    arguments: tuple[str, ...]

    def qemu_args(self) -> list[str]:
        """See Part."""
        return list(self.arguments)


def _value(path: Path) -> str:
    # In the value of one of QEMU's options a comma stands for itself when it is doubled.
    return str(path).replace(",", ",,")


def command(qemu: str, parts: Sequence[Part]) -> list[str]:
    """Return the whole command line of a machine."""
    words = [argument for part in parts for argument in part.qemu_args()]
    return [qemu, *words, "-append", _kernel_command_line(parts)]


def _kernel_command_line(parts: Iterable[Part]) -> str:
    return " ".join(_kernel_word(word) for part in parts for word in part.kernel_args())


def _kernel_word(argument: str) -> str:
    # The kernel splits at spaces, and takes double quotes around a value that has some
    # (next_arg() in lib/cmdline.c). There is nothing that would quote a quote.
    name, equals, value = argument.partition("=")
    if " " in value and " " not in name and '"' not in value:
        return f'{name}{equals}"{value}"'
    return argument


def shown(words: Sequence[str]) -> str:
    """Return a command line as one would type it."""
    return shlex.join(words)
