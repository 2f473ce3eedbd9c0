"""The verifier's log: what its last message says of a program that it refused.

The messages are those of kernel/bpf/verifier.c and kernel/bpf/btf.c, of all releases from 5.4 to
7.3; a comment names the function that writes one. libbpf replaces calls that it had to poison, and
the verifier's complaint of them, with lines of its own (`fixup_verifier_log` of libbpf.c).
"""

import re
from collections.abc import Callable

from bpfmatrix.results.verification import Code
from bpfmatrix.verify import verifierlog
from bpfmatrix.verify.reasons import missing, relocation
from bpfmatrix.verify.reasons.facts import KernelFacts, Missing, ProgramFacts, Reason

__all__ = ["of_log"]

# The number of the helper that libbpf and cilium/ebpf have an instruction call whose CO-RE
# relocation failed (0xbad2310), and the first of the numbers that stand for maps and kfuncs
# (POISON_LDIMM64_MAP_BASE and POISON_CALL_KFUNC_BASE of libbpf.c). cilium/ebpf has one number for
# kfuncs (0xdedc0de, kfuncCallPoisonBase of linker.go).
_POISONED_RELOCATION = 195896080
_POISONED_KFUNC_OF_CILIUM = 233685214
_POISONED_MAP = 2001000000
_POISONED_KFUNC = 2002000000

# The complaint of such a call, for which the loader may know the name.
_POISONED = re.compile(r"^invalid func unknown#(?:195896080|233685214|2002\d{6})$", re.M)

_Rule = Callable[[re.Match[str], ProgramFacts, str], Reason]


def _says(code: Code) -> _Rule:
    """Return the rule that gives a code, with the verifier's message as the reason."""
    return lambda match, program, line: Reason(code, line)


def _unknown_number(match: re.Match[str], program: ProgramFacts, line: str) -> Reason:
    number = int(match[1])
    if number == _POISONED_RELOCATION:
        return relocation.failed()
    if number >= _POISONED_KFUNC or number == _POISONED_KFUNC_OF_CILIUM:
        return missing.unchecked_kfunc()
    if number >= _POISONED_MAP:
        return Reason(Code.MAP_CREATE_FAILED, "it uses a map that was not made")
    return missing.helper(number)


def _not_for_type(match: re.Match[str], program: ProgramFacts, line: str) -> Reason:
    return Reason(
        Code.UNSUPPORTED_HELPER,
        f"on this kernel, programs of type {program.type} can't call {match[1]}",
    )


def _kfunc_not_for_type(match: re.Match[str], program: ProgramFacts, line: str) -> Reason:
    return Reason(
        Code.UNSUPPORTED_KFUNC,
        f"on this kernel, programs of type {program.type} can't call kfunc {match[1]}",
    )


_RULES: tuple[tuple[re.Pattern[str], _Rule], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (
            r"failed to resolve CO-RE relocation (<.*)",
            lambda match, program, line: relocation.failed(match[1]),
        ),
        (
            r"kfunc '(\S+)' is referenced but wasn't resolved",
            lambda match, program, line: missing.unchecked_kfunc(match[1]),
        ),
        (
            r"BPF map '(\S+)' is referenced but wasn't created",
            lambda match, program, line: Reason(
                Code.MAP_CREATE_FAILED, f"it uses the map {match[1]}, which was not made"
            ),
        ),
        # check_helper_call, in all releases.
        (r"invalid func unknown#(\d+)", _unknown_number),
        # check_helper_call, for a helper that programs of this type can't call: up to 6.12, and
        # later.
        (r"(?:unknown func|program of this type cannot use helper) (\w+)#(\d+)", _not_for_type),
        # check_kfunc_call, fetch_kfunc_meta, add_kfunc_call.
        (r"calling kernel function (\w+) is not allowed", _kfunc_not_for_type),
        (
            r"calling kernel function is not supported without CONFIG_DEBUG_INFO_BTF",
            _says(Code.MISSING_BTF),
        ),
        (
            r"calling kernel functions? (?:are|is) not supported|"
            r"JIT does not support calling kernel function|"
            r"kernel btf_id \d+ is not a (?:kernel )?function|"
            r"kernel function btf_id \d+ is not a valid func_proto",
            _says(Code.UNSUPPORTED_KFUNC),
        ),
        # do_check, check_cfg, push_stack.
        (
            r"BPF program is too large|The sequence of \d+ jumps is too complex|"
            r"program is too complex",
            _says(Code.TOO_COMPLEX),
        ),
        # process_spin_lock, process_timer_func, and check_map_field_pointer.
        (
            r"map '(.*)' has to have BTF in order to use (\S+)",
            lambda match, program, line: Reason(
                Code.MISSING_BTF,
                f"map {match[1]} has no BTF of its key and value, which {match[2]} needs: "
                "declare the map with __type in the section .maps",
            ),
        ),
        (
            r"(?i)missing btf|prog(?:ram)? BTF|has no btf|in-kernel BTF is malformed",
            _says(Code.MISSING_BTF),
        ),
        # check_struct_ops_btf_id, for a program that its loader found no struct_ops type for.
        (
            r"attach_btf_id 0 is not a supported struct",
            lambda match, program, line: Reason(
                Code.ATTACH_TARGET_MISSING, "no struct_ops map of its object uses it"
            ),
        ),
        # bpf_check_attach_target, check_attach_btf_id, check_struct_ops_btf_id.
        (
            r"attach_btf_id \d+ is (?:not a|invalid)|[Cc]annot find address for kernel function|"
            r"[Tt]he address of function \w+ cannot be found|is not modifiable|"
            r"LSM programs must (?:attach|have)|programs must provide btf_id|points to .* hook|"
            r"attach to unsupported member|attach_btf_id \d+ is not supported|"
            r"Invalid attach_func|Subprog \w+ doesn't exist|Cannot replace kernel functions",
            _says(Code.ATTACH_TARGET_MISSING),
        ),
    )
)


def of_log(
    log: str, program: ProgramFacts, kernel: KernelFacts, lacking: Missing | None = None
) -> Reason | None:
    """Return what a log says of a rejection; None if it has no message.

    `lacking` is what the loader found to be missing besides.
    """
    messages = verifierlog.rejection(log).message
    if not messages:
        return None
    if _POISONED.search(log) and lacking is not None and lacking.name:
        if lacking.kind == "kfunc":
            return missing.unchecked_kfunc(lacking.name)
        if lacking.kind == "type":
            return relocation.failed(lacking.name)
    for line in reversed(messages):
        for pattern, rule in _RULES:
            if match := pattern.search(line):
                return rule(match, program, line)
    # The verifier refuses the arguments of a new helper, such as callbacks, before it looks at the
    # helper. What it says of an instruction that it walked counts.
    if (
        lacking is not None
        and lacking.kind in ("helper", "kfunc")
        and "processed 0 insns" in log
        and (reason := missing.of_missing(lacking, program, kernel))
    ):
        return reason
    return Reason(Code.VERIFIER_REJECTED, messages[-1])
