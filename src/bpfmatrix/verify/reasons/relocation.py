"""CO-RE relocations that failed: what the kernel does not have, from a library's text of them.

libbpf writes `<byte_off> [12] struct task_struct.exit_code (0:3 @ offset 24)`
(`bpf_core_format_spec` of relo_core.c).
"""

import re

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons.facts import Reason

__all__ = ["failed"]

_SPEC = re.compile(r"<\w+> \[\d+\] (\S+) ([^\s.:\[]+)(.*)")
_VALUE = re.compile(r"::(\S+) = ")
_PATH = re.compile(r"[^\s(]+")
# What follows ___ in a name, which CO-RE ignores.
_FLAVOR = re.compile(r"(?<=.)___.*")
_UNKNOWN = "CO-RE: it uses a type or a field that this kernel does not have"


def failed(what: str = "") -> Reason:
    """Return the reason of a program that needs something which the kernel does not have.

    `what` is libbpf's text of the relocation, or what it is of, such as `struct file.f_path`.
    """
    named = _described(what) or what
    return Reason(Code.RELOCATION_FAILED, f"this kernel has no {named}" if named else _UNKNOWN)


def _described(spec: str) -> str:
    """Return what a relocation is of, such as `struct task_struct.exit_code`; empty if unknown."""
    match = _SPEC.match(spec)
    if match is None:
        return ""
    kind, name, rest = match.groups()
    name = _FLAVOR.sub("", name)
    # A typedef has no keyword in C.
    whole = name if kind in ("typedef", "int", "float") else f"{kind} {name}"
    if value := _VALUE.match(rest):
        return f"value {_FLAVOR.sub('', value[1])} of {whole}"
    path = _PATH.match(rest)
    return f"{whole}{path[0]}" if path else whole
