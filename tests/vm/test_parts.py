import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.vm.channels import CHANNELS
from bpfmatrix.vm.launch import MachineSpec, machine_parts
from bpfmatrix.vm.machine import panic_message
from bpfmatrix.vm.parts import (
    Board,
    Console,
    Debugger,
    Disk,
    ExtraArguments,
    Incoming,
    Kernel,
    Memory,
    Monitor,
    Part,
    Ports,
    Processor,
    command,
    shown,
)

SPEC = MachineSpec(
    arch="x86_64",
    qemu="/usr/bin/qemu-system-x86_64",
    accelerator="tcg",
    cpus=3,
    memory_bytes=768 << 20,
    boot=Path("/k/vmlinux"),
    initramfs=Path("/i/a.cpio"),
    payload=Path("/p/a.ext4"),
    kernel_args=("quiet",),
    extra_args=("-s", "-S"),
)
FDS = {name: number for number, name in enumerate(CHANNELS, start=10)}


def options(words: list[str]) -> dict[str, list[str]]:
    """Return the values of each option that has some."""
    found: dict[str, list[str]] = {}
    for option, value in itertools.pairwise(words):
        if option.startswith("-"):
            found.setdefault(option, []).append(value)
    return found


def test_a_whole_machine() -> None:
    words = command(SPEC.qemu, machine_parts(SPEC, FDS, Memory(SPEC.memory_bytes)))
    found = options(words)
    assert words[0] == "/usr/bin/qemu-system-x86_64"
    assert found["-smp"] == ["3"]
    assert found["-m"] == ["768M"]
    assert found["-accel"] == ["tcg,thread=single"]
    assert found["-kernel"] == ["/k/vmlinux"]
    assert found["-initrd"] == ["/i/a.cpio"]
    assert "-no-reboot" in words
    assert {f"fd={fd}" for fd in FDS.values()} == {
        value.rsplit(",", 1)[1] for value in found["-chardev"]
    }
    [kernel_line] = found["-append"]
    assert kernel_line.split() == [
        *("panic=-1", "tsc=unstable", "no_timer_check", "console=ttyS0", "rdinit=/init", "quiet")
    ]
    assert words.index("-s") < words.index("-S") < words.index("-append")


def test_the_root_is_the_second_disk() -> None:
    spec = replace(SPEC, root_disk=Path("/r/b.ext4"))
    found = options(command(spec.qemu, machine_parts(spec, FDS, Memory(spec.memory_bytes))))
    files = [drive.rpartition("file=")[2] for drive in found["-drive"]]
    assert files == ["/p/a.ext4", "/r/b.ext4"]
    assert all("readonly=on" in drive for drive in found["-drive"])
    disks = [device for device in found["-device"] if device.startswith("virtio-blk")]
    assert disks == ["virtio-blk-pci,drive=payload", "virtio-blk-pci,drive=root"]


def test_a_part_by_itself_adds_nothing() -> None:
    assert command("qemu", [Part()]) == ["qemu", "-append", ""]
    for part in (Processor("x86_64", "kvm"), Monitor(3), Ports(()), Disk("payload", Path("x"))):
        assert part.kernel_args() == []
    assert ExtraArguments(("-s",)).kernel_args() == []


def test_an_emulated_guest_is_told_its_processors_frequency_or_does_not_trust_it() -> None:
    told = ["tsc=reliable", "tsc_early_khz=2445417", "no_timer_check"]
    assert Processor("x86_64", "tcg", 2445417).kernel_args() == told
    assert Processor("x86_64", "tcg").kernel_args() == ["tsc=unstable", "no_timer_check"]
    assert Processor("x86_64", "kvm").kernel_args() == []
    assert Processor("aarch64", "tcg").kernel_args() == []


def test_the_processor_suits_the_accelerator() -> None:
    assert options(Processor("x86_64", "kvm").qemu_args())["-cpu"] == ["host"]
    [emulated] = options(Processor("x86_64", "tcg").qemu_args())["-cpu"]
    assert emulated.split(",")[:2] == ["max", "+invtsc"]


def test_a_panic_ends_the_machine_at_once() -> None:
    assert Board("x86_64", 1).kernel_args() == ["panic=-1"]


def test_a_port_has_its_name() -> None:
    devices = options(Ports((("a", 5), ("b", 6))).qemu_args())["-device"]
    assert devices == [
        "virtio-serial-pci",
        "virtserialport,chardev=port0,name=a",
        "virtserialport,chardev=port1,name=b",
    ]


def test_memory_is_anonymous_or_a_file() -> None:
    size = 64 << 20
    assert Memory(size).qemu_args() == ["-m", "64M"]
    own = options(Memory(size, Path("/t/memory"), shared=True).qemu_args())
    [written] = own["-object"]
    assert {"size=64M", "share=on", "mem-path=/t/memory"} < set(written.split(","))
    [read_only] = options(Memory(size, Path("/t/memory")).qemu_args())["-object"]
    assert "share=off" in read_only.split(",")
    assert Incoming().qemu_args() == ["-incoming", "defer"]


@given(st.text("ab,=", min_size=1))
def test_a_comma_in_the_memorys_name_stays_part_of_it(name: str) -> None:
    [backend] = options(Memory(1 << 20, Path("/x") / name).qemu_args())["-object"]
    _, _, file = backend.partition("mem-path=")
    assert "," not in file.replace(",,", "")
    assert file.replace(",,", ",") == f"/x/{name}"


@given(st.text("ab,=", min_size=1))
def test_a_comma_in_an_images_name_stays_part_of_it(name: str) -> None:
    [drive] = options(Disk("payload", Path("/x") / name).qemu_args())["-drive"]
    _, _, file = drive.partition("file=")
    # In QEMU's options, two commas are one, and a single comma ends the value.
    assert "," not in file.replace(",,", "")
    assert file.replace(",,", ",") == f"/x/{name}"


def kernel_words(line: str) -> list[str]:
    """Split a command line as the kernel's next_arg() does (lib/cmdline.c)."""
    words, rest = [], line.lstrip()
    while rest:
        quoted_whole = rest.startswith('"')
        if quoted_whole:
            rest = rest[1:]
        in_quote, equals, end = quoted_whole, -1, len(rest)
        for position, letter in enumerate(rest):
            if letter.isspace() and not in_quote:
                end = position
                break
            if equals < 0 and letter == "=":
                equals = position
            if letter == '"':
                in_quote = not in_quote
        word, rest = rest[:end], rest[end:].lstrip()
        if quoted_whole and word.endswith('"'):
            word = word[:-1]
        if equals >= 0:
            name, value = word[:equals], word[equals + 1 :]
            if value.startswith('"'):
                value = value[1:].removesuffix('"')
            word = f"{name}={value}"
        words.append(word)
    return words


PLAIN = st.text("ab.-", min_size=1, max_size=5)
SPACED = st.text("ab =", min_size=1, max_size=8)


@given(st.lists(st.one_of(PLAIN, st.builds("{}={}".format, PLAIN, SPACED)), max_size=4))
def test_the_kernel_reads_the_parameters_that_were_given(arguments: list[str]) -> None:
    line = command("qemu", [Kernel(Path("k"), Path("i"), tuple(arguments))])[-1]
    assert kernel_words(line) == ["rdinit=/init", *arguments]


def test_parameters_with_spaces() -> None:
    def line(*arguments: str) -> str:
        return command("qemu", [Kernel(Path("k"), Path("i"), arguments)])[-1]

    assert line("a=b c") == 'rdinit=/init a="b c"'
    # The user's own quotes are left as they are.
    assert line('dyndbg="file x.c +p"') == 'rdinit=/init dyndbg="file x.c +p"'
    # A word without a value is a parameter, and so are two.
    assert line("quiet nokaslr") == "rdinit=/init quiet nokaslr"


def test_console_and_monitor_are_where_they_were_put() -> None:
    assert Console("x86_64", 7).qemu_args()[1].endswith("fd=7")
    assert Monitor(8).qemu_args()[1].endswith("fd=8")


def test_a_command_line_is_shown_as_one_would_type_it() -> None:
    assert shown(["qemu", "-append", "a b"]) == "qemu -append 'a b'"


def test_the_reason_of_a_panic() -> None:
    console = (
        "[    0.1] Kernel panic - not syncing: first\r\n"
        "[    2.1] Kernel panic - not syncing: sysrq triggered crash\r\n[    2.2] CPU: 0\r\n"
    )
    assert panic_message(console) == "sysrq triggered crash"
    assert panic_message("Kernel panic - not syncing: ") == ""
    assert panic_message("fine") == ""


@pytest.mark.parametrize(("held", "words"), [(True, ["-S"]), (False, [])])
def test_a_debugger_may_hold_the_guest(held: bool, words: list[str]) -> None:
    arguments = Debugger(7, held=held).qemu_args()
    assert arguments[:2] == ["-chardev", "socket,id=gdb,fd=7,server=on,wait=off"]
    assert arguments[4:] == words


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "s390x"])
def test_a_machine_whose_memory_is_dumped_stays_when_the_guest_ends(arch: str) -> None:
    spec = replace(SPEC, arch=arch)
    plain = options(command("qemu", machine_parts(spec, FDS)))
    dumped = options(command("qemu", machine_parts(replace(spec, dump=True), FDS)))
    assert "shutdown=pause" not in plain["-action"]
    assert dumped["-action"] == [*plain["-action"], "shutdown=pause"]
    # QEMU has this device for two architectures.
    assert ("vmcoreinfo" in dumped["-device"]) == (arch != "s390x")
