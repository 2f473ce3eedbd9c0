"""Compares what libbpf says about a program with what `invoke verify` says."""

import enum
import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What the verifier's log ends with, after its message.
_STATISTICS = re.compile(
    r"processed \d+ insns|verification time |stack depth |insns processed|\s*$|"
    r"Verification failed:"
)
# Some messages have no end of line; maps of global data are named after the object's file, which
# has another name in each guest.
_GLUED = re.compile(r"(?<=\S)(?:verification time \d+ usec|processed \d+ insns \(limit ).*")
_OBJECT_NAME = re.compile(r"\bmap=\w+\.(?=bss|data|rodata)")
# libbpf says this after the kernel took the program: it fills an array of programs with others of
# the object, which are not loaded here.
_FILLING = "failed to initialize slot ["
# libbpf loads all programs of a map of struct_ops, even if they are switched off.
_REFUSED = re.compile(r"prog '(\w+)': BPF program load failed")
# The project is to say which program one of freplace extends; `verify` looks for it.
_NO_TARGET = "attach program FD is not set"
# libbpf's own errors, from 4000 on (enum libbpf_errno of libbpf.h).
_LIBBPF = (
    *("LIBELF", "FORMAT", "KVERSION", "ENDIAN", "INTERNAL", "RELOC", "LOAD", "VERIFY"),
    *("PROG2BIG", "KVER", "PROGTYPE", "WRNGPID", "INVSEQ", "NLPARSE"),
)
_ERRNO = {
    **errno.errorcode,
    errno.EOPNOTSUPP: "EOPNOTSUPP",  # it is ENOTSUP, too
    524: "ENOTSUPP",  # of include/linux/errno.h, which no header of programs has
    **{number: f"LIBBPF_ERRNO__{name}" for number, name in enumerate(_LIBBPF, 4000)},
}


class Class(enum.StrEnum):
    """How the two verdicts about a program relate."""

    BOTH_LOAD = "both load it"
    ONLY_LIBBPF = "only libbpf loads it"
    ONLY_VERIFY_TOLD = "only verify loads it, and tells why"
    ONLY_VERIFY = "only verify loads it, and does not tell why"
    OTHER_PROGRAM = "libbpf refuses another program with it"
    SAME_REASON = "both refuse it, for the same reason"
    OTHER_REASON = "both refuse it, for different reasons"
    UNKNOWN = "one of them did not finish"


@dataclass(frozen=True)
class Compared:
    """Both verdicts about one program."""

    object: str
    program: str
    kind: Class
    libbpf: str
    """libbpf's reason, in one line."""
    verify: str
    """The code and the reason of `invoke verify`."""

    @property
    def line(self) -> str:
        """For people."""
        return (
            f"{self.object}: {self.program}\n    libbpf  {self.libbpf}\n    verify  {self.verify}"
        )


def compare(
    reference: Mapping[str, Sequence[Mapping[str, Any]]], verification: Mapping[str, Any]
) -> list[Compared]:
    """Compare all programs of objects.

    `reference` is what `sides.reference` gives, `verification` is the JSON of `invoke verify`.
    """
    programs = {(one["object"], one["program"]): one for one in verification["programs"]}
    of_object: dict[str, list[str]] = {}
    for object, program in programs:
        of_object.setdefault(object, []).append(program)
    refused = {one["object"]: one for one in verification["refused"]}
    found = []
    for object, answers in reference.items():
        for answer in answers:
            # An object that libbpf can't open has one answer, without a program.
            names = [answer["program"]] if "program" in answer else of_object.get(object, [])
            for name in names:
                ours = programs.get((object, name)) or refused.get(object)
                found.append(_compared(object, name, answer, ours))
    return found


def _compared(
    object: str, program: str, theirs: Mapping[str, Any], ours: Mapping[str, Any] | None
) -> Compared:
    return Compared(
        object,
        program,
        _kind(theirs, ours),
        _their_reason(theirs),
        f"{ours.get('code')} {ours.get('errno') or ''}: {ours.get('reason')}"
        if ours
        else "nothing",
    )


def _kind(theirs: Mapping[str, Any], ours: Mapping[str, Any] | None) -> Class:
    if "ended" in theirs or ours is None:
        return Class.UNKNOWN
    loaded = bool(theirs.get("loaded")) or _said(theirs, _FILLING)
    if ours.get("outcome") == "passed":
        return Class.BOTH_LOAD if loaded else _only_verify(theirs, ours)
    if ours.get("code") in ("timeout", "not-run", "kernel-died", "declared"):
        return Class.UNKNOWN
    if loaded:
        return Class.ONLY_LIBBPF
    return Class.SAME_REASON if _same_reason(theirs, ours) else Class.OTHER_REASON


def _only_verify(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Class:
    if _refused_other(theirs):
        return Class.OTHER_PROGRAM
    return Class.ONLY_VERIFY_TOLD if ours["reason"] else Class.ONLY_VERIFY


def message(log: str) -> str:
    """Return the last line of a verifier's log that is no statistics; empty if there is none."""
    lines = [line.strip() for line in log.splitlines() if not _STATISTICS.match(line)]
    return _GLUED.sub("", lines[-1]) if lines else ""


def _without_name(text: str) -> str:
    return _OBJECT_NAME.sub("map=", text)


def _same_reason(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    said = message(theirs.get("log") or "")
    if said:
        known = (ours.get("log_end") or "", ours.get("verifier_tail") or "", ours["reason"])
        return any(_without_name(said) in _without_name(text) for text in known)
    if _said(theirs, _NO_TARGET) and ours.get("code") == "attach-target-missing":
        return True
    # Without a log there are the kernel's or libbpf's error, and what libbpf says about it.
    return _errno(theirs) == ours.get("errno")


def _said(theirs: Mapping[str, Any], text: str) -> bool:
    return any(text in line for line in theirs.get("words") or [])


def _refused_other(theirs: Mapping[str, Any]) -> bool:
    found = _REFUSED.search("\n".join(theirs.get("words") or []))
    return found is not None and found[1] != theirs["program"]


def _errno(theirs: Mapping[str, Any]) -> str:
    number = int(theirs.get("errno") or 0)
    return _ERRNO.get(number, str(number))


def _their_reason(theirs: Mapping[str, Any]) -> str:
    if "ended" in theirs:
        return str(theirs["ended"])
    if theirs.get("loaded"):
        return "loaded"
    said = message(theirs.get("log") or "")
    words = " | ".join(" ".join(line.split()) for line in theirs.get("words") or [])
    return f"{_errno(theirs)}: {said or words}"
