"""Reads the verifier's log: which instructions it walked, where it stopped, what it knew there.

The format is not a stable interface of the kernel (print_verifier_state and verbose_linfo in
kernel/bpf/verifier.c, and kernel/bpf/disasm.c). What is read here is the same from 5.4 to 7.3:

- `12: (79) r1 = *(u64 *)(r0 +0)` is an instruction, each time that it is walked. From 5.19 on, the
  registers that changed follow it: `; R1_w=scalar()`.
- `12: R0=map_value_or_null(id=1) R10=fp0` and `from 5 to 12: R0=...` are states of registers. Newer
  kernels write most states after an instruction.
- `; int x = *p;` is the source line of the next instruction; from 6.8 on, ` @ file.c:12` follows.
- `12: safe` and `from 5 to 12: safe` mean that the verifier pruned the path: it had seen an
  equivalent state at that instruction.
- The lines after the last instruction say why the verifier stopped; then come statistics. From 7.3
  on there is an explanation between the two, which begins with `Verification failed:`.
- Newer kernels first list the whole program, each instruction once, in nearly the same format.

Level 2 has each instruction as often as it was walked; level 1 has those of the failing path only.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["LineInfo", "RejectionInLog", "lines_of", "rejection", "walks"]

_INSTRUCTION = re.compile(r"(\d+): \(([0-9a-f]{2})\) (.*)")
_STATE = re.compile(r"(?:from \d+ to )?\d+(?: \([^)]*\))?: (?=R\d|frame\d)")
_SAFE = re.compile(r"(?:from \d+ to )?(\d+)(?: \([^)]*\))?: safe")
_LISTING = re.compile(r"subprog#\d+ .*:|stack use/def .*:")
_LISTED = re.compile(r"\s*\d+: \([0-9a-f]{2}\) ")
_EXPLANATION = "Verification failed:"
_SOURCE = re.compile(r"; (.*?)(?: @ (\S+):(\d+))?")
_STATISTICS = re.compile(
    r"processed \d+ insns|verification time |stack depth |subprog \d+ |func#\d+ @|"
    r"arg#\d+ reference type|reg type unsupported for arg#|"
    r"mark_precise|last_idx |regs=|parent "
)
# Some of the verifier's messages have no end of line, such as "cannot call exception cb directly".
_GLUED = re.compile(r"(?<=\S)(?:verification time \d+ usec|processed \d+ insns \(limit ).*")
_REGISTER = re.compile(r"(?<![\w])(R\d+)(?:_[a-zA-Z]+)*=([^\s(]+(?:\((?:[^()]|\([^()]*\))*\))?)")
_USED = re.compile(r"\b[rw](\d+)\b")
_TARGET = re.compile(r"^[rw]\d+ = ")
_NAMED = re.compile(r"\bR(\d+)\b")
_MESSAGE_LINES = 6


@dataclass(frozen=True)
class LineInfo:
    """A line of the source, and the first instruction of it (`struct bpf_line_info`)."""

    instruction: int
    file: str
    """The path in the BTF, or empty if it is not known."""
    line: int
    """The number, from 1 on; 0 if it is not known."""
    text: str


@dataclass(frozen=True)
class RejectionInLog:
    """Where the verifier stopped, and why."""

    instruction: int | None = None
    """The instruction's number; None if the verifier did not get to any."""
    disassembly: str = ""
    registers: Mapping[str, str] | None = None
    """The states of the registers that the instruction reads, or that the message names."""
    message: tuple[str, ...] = ()
    """The verifier's message, at most its last six lines."""
    walked: tuple[int, ...] = ()
    """The numbers of the last instructions of the path that was rejected."""


def walks(lines: Iterable[str]) -> Counter[int]:
    """Count how often the verifier came to each instruction; the sum is its `processed` count."""
    found: Counter[int] = Counter()
    for line in _trace(lines):
        # This is called for each of millions of lines.
        if line[:1] in _BEGINS and (match := _INSTRUCTION.match(line) or _SAFE.match(line)):
            found[int(match[1])] += 1
    return found


_BEGINS = frozenset("0123456789f")


def _trace(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a log without the listings of the program."""
    listing = False
    for line in lines:
        if listing and _LISTED.match(line):
            continue
        listing = line[:1] == "s" and _LISTING.match(line) is not None
        if not listing:
            yield line


def rejection(log: str) -> RejectionInLog:
    """Read the end of a log: the last instruction, the states of its registers, and the message."""
    lines = log.splitlines()
    last = next(
        (number for number in range(len(lines) - 1, -1, -1) if _INSTRUCTION.match(lines[number])),
        None,
    )
    message = tuple(_message(lines if last is None else lines[last + 1 :]))
    if last is None:
        return RejectionInLog(message=message)
    match = _INSTRUCTION.match(lines[last])
    assert match
    disassembly = re.split(r"\s+; (?=R\d|frame\d)", match[3])[0].strip()
    # The register that the instruction only writes is not of interest.
    read = _TARGET.sub("", disassembly)
    numbers = [*_NAMED.findall(" ".join(message)), *_USED.findall(read)]
    wanted = [f"R{number}" for number in numbers]
    return RejectionInLog(
        int(match[1]),
        disassembly,
        _known(lines[:last], dict.fromkeys(wanted)),
        message,
        tuple(_path(lines[: last + 1])),
    )


def _message(lines: Sequence[str]) -> list[str]:
    before = itertools.takewhile(lambda line: not line.startswith(_EXPLANATION), lines)
    message = [
        line
        for line in (_GLUED.sub("", line.strip()) for line in before)
        if line and not (_STATISTICS.match(line) or _STATE.match(line) or line[0] == ";")
    ]
    return message[-_MESSAGE_LINES:]


def _known(lines: Sequence[str], wanted: Iterable[str]) -> dict[str, str]:
    """Return the last state of each wanted register, in the order in which they are wanted."""
    waiting, found = list(wanted), {}
    for line in reversed(lines):
        if not waiting:
            break
        states = dict(_REGISTER.findall(_state_of(line)))
        for register in [name for name in waiting if name in states]:
            found[register] = states[register]
            waiting.remove(register)
    return {name: found[name] for name in wanted if name in found}


def _state_of(line: str) -> str:
    """Return the part of a line that has states of registers, or `""`."""
    if match := _STATE.match(line):
        return line[match.end() :]
    if _INSTRUCTION.match(line):
        parts = re.split(r"; (?=R\d|frame\d)", line, maxsplit=1)
        return parts[1] if len(parts) > 1 else ""
    return ""


_PATH_LENGTH = 200


def _path(lines: Sequence[str]) -> Iterator[int]:
    """Yield the last instructions of the path that the lines end with, in their order."""
    found: list[int] = []
    for line in reversed(lines):
        if match := _INSTRUCTION.match(line):
            found.append(int(match[1]))
        elif line.startswith("from ") or len(found) >= _PATH_LENGTH:
            break
    yield from reversed(found)


def lines_of(log: Iterable[str]) -> list[LineInfo]:
    """Return the source lines in a log, in the order of instructions.

    They are for objects without line information of their own. Kernels before 6.8 give neither the
    file nor the number of a line.
    """
    found: dict[int, LineInfo] = {}
    comment: tuple[str, str, int] | None = None
    for line in _trace(log):
        if line.startswith("; ") and (source := _SOURCE.fullmatch(line)):
            comment = (source[2] or "", source[1], int(source[3] or 0))
        elif comment and (instruction := _INSTRUCTION.match(line)):
            number = int(instruction[1])
            found.setdefault(number, LineInfo(number, comment[0], comment[2], comment[1].strip()))
            comment = None
    return [found[number] for number in sorted(found)]
