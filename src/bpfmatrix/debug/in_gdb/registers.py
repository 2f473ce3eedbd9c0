"""Registers and stack slots as the verifier knows them, in the format of its log.

It does not need gdb: `verifier.py` reads the `struct bpf_reg_state`, whose fields differ between
releases, into a `Register`. The text is that of the newest log (print_reg_state of
kernel/bpf/log.c), whatever the release of the kernel is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["NOT_INIT", "Register", "Scalar", "slot_text", "type_name"]

NOT_INIT = "?"
"""The name of the type of a register that holds nothing."""

# enum bpf_reg_type of include/linux/bpf.h: the names in the log that do not follow from those of
# the enumerators.
_NAMES = {
    "NOT_INIT": NOT_INIT,
    "SCALAR_VALUE": "scalar",
    "CONST_PTR_TO_MAP": "map_ptr",
    "CONST_PTR_TO_DYNPTR": "dynptr_ptr",
    "PTR_TO_STACK": "fp",
    "PTR_TO_PACKET": "pkt",
    "PTR_TO_PACKET_META": "pkt_meta",
    "PTR_TO_PACKET_END": "pkt_end",
    "PTR_TO_SOCKET": "sock",
    "PTR_TO_BTF_ID": "ptr_",
    "PTR_TO_PERCPU_BTF_ID": "percpu_ptr_",
}
# enum bpf_type_flag, from 5.17 on: what the log puts in front of the name of the type.
_PREFIXES = {
    "MEM_RDONLY": "rdonly_",
    "MEM_RINGBUF": "ringbuf_",
    "MEM_USER": "user_",
    "MEM_PERCPU": "percpu_",
    "MEM_RCU": "rcu_",
    "PTR_UNTRUSTED": "untrusted_",
    "PTR_TRUSTED": "trusted_",
}
# BPF_BASE_TYPE_BITS of include/linux/bpf.h: flags are above these bits.
_BASE = 0xFF

# enum bpf_stack_slot_type of include/linux/bpf_verifier.h: the letters of slot_type_char.
_SLOTS = "?rm0difp"

_U64, _U32 = (1 << 64) - 1, (1 << 32) - 1
_S64, _S32 = 1 << 63, 1 << 31


def type_name(value: int, types: Mapping[str, int], flags: Mapping[str, int]) -> str:
    """Return the name of a register's type in the log.

    `types` and `flags` are the enumerators of the kernel; `flags` is empty before 5.17.
    """
    base = value & _BASE if flags else value
    # Later enumerators are aliases, such as PTR_TO_MAP_VALUE_OR_NULL with its flag.
    name = next((name for name, number in types.items() if number == base), f"type {value:#x}")
    nullable = bool(flags and value & flags.get("PTR_MAYBE_NULL", 0))
    if name.endswith("_OR_NULL"):
        name, nullable = name.removesuffix("_OR_NULL"), True
    text = _NAMES.get(name, name.removeprefix("PTR_TO_").lower())
    if nullable:
        text += "or_null_" if text.endswith("_") else "_or_null"
    prefix = "".join(_PREFIXES[flag] for flag in _PREFIXES if value & flags.get(flag, 0))
    return prefix + text


@dataclass(frozen=True)
class Scalar:
    """What is known of a number, or of the variable part of a pointer's offset."""

    value: int = 0
    mask: int = 0
    """The bits of `value` that are not known (struct tnum)."""
    smin: int = -_S64
    smax: int = _S64 - 1
    umin: int = 0
    umax: int = _U64
    smin32: int = -_S32
    smax32: int = _S32 - 1
    umin32: int = 0
    umax32: int = _U32

    def ranges(self) -> list[str]:
        """Return the bounds that say something, those that are equal as one."""
        if not self.mask:
            return []
        of_64 = {"smin": self.smin, "smax": self.smax, "umin": self.umin, "umax": self.umax}
        of_32 = {
            "smin32": self.smin32,
            "smax32": self.smax32,
            "umin32": self.umin32,
            "umax32": self.umax32,
        }
        unknown = Scalar()
        said: dict[int, list[str]] = {}
        for name, bound in {**of_64, **of_32}.items():
            if bound == getattr(unknown, name):
                continue
            # A bound of the lower half that the one of the whole number implies.
            if name in of_32 and of_64[name.removesuffix("32")] == bound:
                continue
            said.setdefault(bound, []).append(name)
        return [f"{'='.join(names)}={_number(bound)}" for bound, names in said.items()]


@dataclass(frozen=True)
class Register:
    """What the verifier knows of a register, or of a slot of the stack with a register in it."""

    type: str
    """Its name in the log; see `type_name`."""
    scalar: Scalar = Scalar(mask=_U64)
    offset: int = 0
    """The constant part of a pointer's offset in bytes, outside of `scalar`."""
    id: int = 0
    reference: int = 0
    """The id of the object that must be released, or of its parent."""
    precise: bool = False
    details: tuple[str, ...] = ()
    """What else is known of this type: a map, a range of a packet, a size."""
    struct: str = ""
    """The kernel's type, of a pointer with BTF."""
    frame: int | None = None
    """The frame whose stack it points to, if it is another one than the register's."""

    def text(self) -> str:
        """Return it as the log shows it, without the register's name."""
        mark, number, known = "P" if self.precise else "", self.scalar, not self.scalar.mask
        if self.type == "scalar" and known:
            return mark + _number(_as_signed(number.value))
        if self.type == "fp" and known:
            frame = "" if self.frame is None else f"[{self.frame}]"
            return f"fp{frame}{_as_signed(number.value) + self.offset}"
        words = [f"id={self.id}"] if self.id else []
        words += [f"ref_obj_id={self.reference}"] if self.reference else []
        words += self.details
        words += [f"off={_number(self.offset)}"] if self.offset else []
        if known and number.value:
            words.append(f"imm={_number(_as_signed(number.value))}")
        if not known:
            words += number.ranges()
            if number.mask != _U64:
                words.append(f"var_off=({number.value:#x}; {number.mask:#x})")
        return f"{mark}{self.type}{self.struct}({','.join(words)})"


def slot_text(types: Sequence[int], spilled: Register | None) -> str:
    """Return the eight bytes of a stack slot, or "" if nothing was stored there.

    `types` has the `slot_type` of each byte; `spilled` is the register that they hold.
    """
    if spilled is not None:
        return spilled.text()
    letters = "".join(_SLOTS[one] if one < len(_SLOTS) else "?" for one in types)
    return letters if letters.strip("?p") else ""


def _number(value: int) -> str:
    # The log has small numbers in decimal, and large ones, which are masks mostly, as such.
    return str(value) if -(1 << 15) < value < 1 << 16 else f"{value:#x}"


def _as_signed(value: int) -> int:
    return value - (1 << 64) if value >= _S64 else value
