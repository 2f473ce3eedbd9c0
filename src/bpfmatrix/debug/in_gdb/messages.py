"""The verifier's messages: what a format and its arguments say, and which lines are reasons.

It does not need gdb. The verifier writes a line of its log with one or more calls of a function
that takes a format of printf, `verbose` of kernel/bpf/verifier.c.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Lines", "formatted", "instruction_of", "is_trace"]

# How lines begin that are no reason to reject a program: instructions, states, source lines, what
# the verifier deduces, and statistics. They are written if a library asks for a log at its first
# attempt. The formats are those of kernel/bpf/*.c from 5.4 to 7.3.
_TRACE = re.compile(
    r"%d: |%\d?d[: ]|%\d+d[: ]|(?:%[.*a-z]+)+\s*$|%\*c;|[\s(;=,_)?|.+]|(?:from|to) |frame ?%d|"
    r"R%d(?:_|=|$)|processed |subprog ?#?%d[ :]|func#%d @|verification time|"
    r"stack depth (?:%d\+?|max %d\s*)?$|last_idx|regs=|parent |mark_precise|propagating|"
    r"returning from callee|callee:|caller:|cur state:|old state:|[Ll]ive regs|stack use/def|"
    r"arg JOIN|IMP%x|fp%[d+]|r%d: |sa%d: |Validating %s|Func#%d |func '%s' arg%d has btf_id|"
    r"marking pointer arg|CO-RE relocating|\[%d\]%s|vmlinux_cand|falling back|BPF program load|"
    r"For now, treating|Found loop|%s:\n$|force_precise: |signature verification passed|"
    r"mark_reg_(?:unknown|not_init)\(regs, |SCC (?:enter|exit|backedge) |%s: too many iterations|"
    r"stack=%s"
)


def is_trace(format: str) -> bool:
    """Whether a line that begins with this format is no reason to reject a program."""
    return _TRACE.match(format) is not None


def instruction_of(reason: str) -> int | None:
    """Return the number of the instruction that a message names; None if it names none."""
    found = re.search(r"\binsn[ =](\d+)", reason)
    return int(found[1]) if found else None


# The conversions of the kernel's printf that the verifier uses.
_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+))?"
    r"(?P<length>hh|h|ll|l|z|j|t|L)?(?P<kind>[diuoxXcsp%])"
)


def formatted(format: str, argument: Callable[[], int], string: Callable[[int], str]) -> str:
    """Return what a format of the kernel's printf says.

    `argument` returns the next argument, 64 bits without a sign. `string` reads the string at an
    address.
    """

    def converted(match: re.Match[str]) -> str:
        if match["kind"] == "%":
            return "%"
        flags, width, precision = match["flags"], match["width"] or "", match["precision"]
        if width == "*":
            width = str(_signed(argument(), 32))
        if precision == "*":
            precision = str(max(0, _signed(argument(), 32)))
        return _converted(match, flags, width, precision, argument(), string)

    return _CONVERSION.sub(converted, format)


def _converted(
    match: re.Match[str],
    flags: str,
    width: str,
    precision: str | None,
    value: int,
    string: Callable[[int], str],
) -> str:
    kind = match["kind"]
    bits = 64 if match["length"] in ("ll", "l", "z", "j", "t", "L") else 32
    shape = f"%{flags}{width}"
    if kind == "s":
        text = string(value) if value else "(null)"
        return f"{shape}s" % text[: _length(precision, text)]
    if kind == "c":
        return f"{shape}c" % chr(value & 0xFF)
    if kind == "p":
        return f"{value:#x}"
    number = _signed(value, bits) if kind in "di" else value & ((1 << bits) - 1)
    rest = f".{precision}" if precision is not None else ""
    return f"{shape}{rest}{'d' if kind in 'diu' else kind}" % number


def _length(precision: str | None, text: str) -> int:
    return len(text) if precision is None else int(precision)


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


@dataclass
class Lines:
    """The lines that the verifier writes about one program, of which some are reasons."""

    text: str = ""
    """What was written of the line that is not complete yet."""
    trace: bool = False
    """Whether that line is no reason."""

    def add(self, format: str, said: Callable[[], str]) -> str:
        """Take the next part; return the reason that it completes, or "".

        `said` returns what the format says. It is called for reasons only.
        """
        if not self.text:
            self.trace = is_trace(format)
        if self.trace:
            # Whether a line goes on is seen from its format. An instruction's line has more parts.
            self.text = "" if format.endswith("\n") else "..."
            return ""
        self.text += said()
        if not self.text.endswith("\n"):
            return ""
        reason, self.text = self.text.strip(), ""
        return reason
