"""The kernel's call traces: found in a console's output, and with a file and a line for each frame.

A trace names each place as `function+offset/size`, wherever in memory the kernel is. A vmlinux of
the same build gives the address of the function, and `llvm-symbolizer` or binutils' `addr2line`
gives the line of an address.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.host import tools
from bpfmatrix.kernels.console_log import PREFIX
from bpfmatrix.kernels.symbols import Symbols, elf

__all__ = ["Frame", "find", "formatted", "located"]

# The first line of an oops or a panic, on all architectures.
_BEGIN = re.compile(
    r"Kernel panic - not syncing|^BUG: |^Oops|^Unable to handle kernel|^general protection fault"
    r"|^invalid opcode|^kernel BUG at|^divide error|^stack segment|^Internal error: "
)
_PLACE = r"(?P<function>[A-Za-z_][\w.]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
# Some architectures print addresses before it: `[<0123>] f+0x1/0x2` on riscv64 and s390x, there
# also in brackets, and `[0123] [4567] f+0x1/0x2` on ppc64le: of the stack, and of the code.
_ADDRESSES = r"\(?(?:\[<?[0-9a-f]{16}>?\] ){0,2}"
_MODULE = r"(?: \[(?P<module>[\w-]+)[^\]]*\])?"
_FRAME = re.compile(rf"^ *{_ADDRESSES}{_PLACE}{_MODULE}(?: \((?:P|unreliable)\)|\))? *$")
# The instruction pointer: `RIP: 0010:f+0x1/0x2` on x86_64, `pc : f+0x1/0x2` on arm64, `epc : ...`
# on riscv64, `NIP [0123] ...` on ppc64le, and `Krnl PSW : 0123 4567 (f+0x1/0x2)` on s390x.
_INSTRUCTION_POINTER = re.compile(
    r"^(?:RIP: \w+:|e?pc : |NIP \[[0-9a-f]+\] |Krnl PSW : [0-9a-f]{16} [0-9a-f]{16} \()"
    rf"{_PLACE}{_MODULE}\)?$"
)
_FRAMES_LIMIT = 24
# The folders at the top of a source tree.
_TOP = re.compile(
    r"(?:^|/)((?:arch|block|certs|crypto|drivers|fs|include|init|io_uring|ipc|kernel|lib|mm|net"
    r"|rust|security|sound|virt)/.+)$"
)
_TOOLS = ("llvm-symbolizer", *(f"llvm-symbolizer-{n}" for n in range(22, 13, -1)), "addr2line")


@dataclass(frozen=True)
class Frame:
    """A place in a call trace."""

    function: str
    offset: int
    size: int
    module: str = ""
    interrupted: bool = False
    """Whether the processor was at this place. Other frames are places that it would return to."""
    location: str = ""
    """File and line: `kernel/bpf/verifier.c:12472`; empty if they are not known."""

    @property
    def place(self) -> str:
        """The place as the kernel writes it."""
        module = f" [{self.module}]" if self.module else ""
        return f"{self.function}+{self.offset:#x}/{self.size:#x}{module}"


def find(console: str) -> list[Frame]:
    """Return the first call trace of an oops or a panic, the innermost function first.

    Frames that the kernel marks as unreliable, with a `?`, are left out.
    """
    frames: list[Frame] = []
    lines = [PREFIX.sub("", line.rstrip("\r")) for line in console.splitlines()]
    begin = next((number for number, line in enumerate(lines) if _BEGIN.search(line)), None)
    if begin is None:
        return []
    in_trace = False
    for line in lines[begin:]:
        if match := _INSTRUCTION_POINTER.match(line):
            if not frames:  # it is printed again behind the trace
                frames.append(_frame(match, interrupted=True))
        elif line.strip().lower() == "call trace:":
            if in_trace:
                break
            in_trace = True
        elif in_trace:
            if match := _FRAME.match(line):
                frames.append(_frame(match))
            elif frames and not _may_be_within(line):
                break
    return frames[:_FRAMES_LIMIT]


def _may_be_within(line: str) -> bool:
    """Whether a line that is no frame may be part of a trace: `<TASK>`, `? f+0x1/0x2`, ""."""
    return line.strip().startswith(("<", "?")) or not line.strip()


def _frame(match: re.Match[str], interrupted: bool = False) -> Frame:
    return Frame(
        match["function"],
        int(match["offset"], 16),
        int(match["size"], 16),
        match["module"] or "",
        interrupted,
    )


def located(frames: Sequence[Frame], symbols: Symbols) -> list[Frame]:
    """Return the frames with their locations, as far as the vmlinux has them.

    If no tool is installed that reads its table of lines, the frames are returned as they are.
    """
    tool = next(filter(None, map(tools.find, _TOOLS)), None)
    if tool is None or not frames:
        return list(frames)
    by_name: dict[str, list[elf.Symbol]] = {}
    for symbol in elf.symbols(symbols.vmlinux):
        by_name.setdefault(symbol.name, []).append(symbol)
    addresses: dict[int, int] = {}
    for number, frame in enumerate(frames):
        found = by_name.get(frame.function, []) if not frame.module else []
        if found:
            # Static functions of different files may have the same name. Their size tells them
            # apart, but not exactly: the kernel counts all bytes up to the next function.
            best = min(found, key=lambda symbol: abs(symbol.size - frame.size))
            # A return address may be of the next line: one byte before it is still in the call.
            addresses[number] = best.address + frame.offset - (not frame.interrupted)
    lines = _lines(tool, symbols.vmlinux, list(addresses.values()))
    known = dict(zip(addresses, lines, strict=False))
    return [
        Frame(
            frame.function,
            frame.offset,
            frame.size,
            frame.module,
            frame.interrupted,
            _shortened(known.get(number, ""), symbols),
        )
        for number, frame in enumerate(frames)
    ]


def _lines(tool: Path, vmlinux: Path, addresses: Sequence[int]) -> list[str]:
    """Return file and line of each address; an empty text if they are not known."""
    if not addresses:
        return []
    options = (
        ["--output-style=GNU", "--no-inlines", "--functions=none"]
        if tool.name.startswith("llvm")
        else []
    )
    done = subprocess.run(
        [tool, *options, "-e", vmlinux, *(hex(address) for address in addresses)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    # "file:12", perhaps followed by " (discriminator 3)"; "??:0" or "??:?" if it is unknown.
    said = [
        re.sub(r" \(discriminator \d+\)$", "", line) for line in done.stdout.splitlines() if line
    ]
    return [line if re.search(r":[1-9]\d*$", line) and line[0] != "?" else "" for line in said]


def _shortened(location: str, symbols: Symbols) -> str:
    """Return a location with its path relative to the source tree."""
    for tree in filter(None, (symbols.moved_from, str(symbols.source or ""))):
        if location.startswith(f"{tree}/"):
            return location.removeprefix(f"{tree}/")
    match = _TOP.search(location)
    return match[1] if match else location


def formatted(frames: Sequence[Frame]) -> list[str]:
    """Return a line for each frame."""
    width = max((len(frame.place) for frame in frames), default=0)
    return [f"{frame.place:<{width}}  {frame.location}".rstrip() for frame in frames]
