"""From a failure that a loader reports to the code and the reason of a program or an object.

The verifier's log comes first, since it says why the kernel refused a program; then what the loader
knows to be missing; then its library's words; then the number of the kernel's error.
"""

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons import aya, cilium_ebpf, libbpf, maps, missing, verifier
from bpfmatrix.verify.reasons.facts import Failure, KernelFacts, ProgramFacts, Reason
from bpfmatrix.verify.reasons.rules import Context, Rule, first_match

__all__ = ["reason_of"]

_LIBRARIES: dict[str, tuple[Rule, ...]] = {
    "libbpf": libbpf.RULES,
    "cilium-ebpf": cilium_ebpf.RULES,
    "aya": aya.RULES,
}
# BPF_MAXINSNS of kernels before 5.2, and of programs of unprivileged users
# (include/uapi/linux/bpf_common.h).
_FEW_INSTRUCTIONS = 4096


def reason_of(
    failure: Failure,
    program: ProgramFacts,
    kernel: KernelFacts,
    loader: str = "libbpf",
    instructions: int | None = None,
) -> Reason:
    """Return why a program did not load, or why an object could not be opened.

    `loader` is the name of the loader whose words the failure has, and `instructions` the number of
    the program's instructions, if it is known.
    """
    of_log = None
    # libbpf loads a program without the map, and the log tells only that; the log of BTF, or of a
    # program that loaded and can't be attached, is no rejection by the verifier.
    if failure.step not in ("map", "btf", "attach"):
        of_log = verifier.of_log(failure.log, program, kernel, failure.missing)
    of_missing = failure.missing and missing.of_missing(failure.missing, program, kernel)
    found = of_log or of_missing or _of_words(failure, program, kernel, loader)
    if found:
        return found
    if failure.step == "map":
        return maps.of_map(failure)
    return _of_step(failure, program, kernel, instructions)


def _of_words(
    failure: Failure, program: ProgramFacts, kernel: KernelFacts, loader: str
) -> Reason | None:
    known = _LIBRARIES.get(loader, libbpf.RULES)
    return first_match(known, failure.words, Context(failure, program, kernel))


def _of_step(
    failure: Failure, program: ProgramFacts, kernel: KernelFacts, instructions: int | None
) -> Reason:
    """Return the reason if neither a log nor known words tell it."""
    said = failure.words[0] if failure.words else failure.errno or "it gave no reason"
    match failure.step:
        case "open":
            return Reason(Code.UNSUPPORTED_BY_LOADER, said)
        case "btf":
            return Reason(Code.BAD_BTF, f"this kernel refuses the object's BTF: {said}")
        case "relocate":
            return Reason(Code.RELOCATION_FAILED, said)
        case "target":
            return missing.target(program, kernel)
        case "attach":
            return Reason(Code.ATTACH_FAILED, said)
    return _of_errno(failure, program, instructions, said)


def _of_errno(
    failure: Failure, program: ProgramFacts, instructions: int | None, said: str
) -> Reason:
    """Return the reason of a system call that failed without a log."""
    named = "" if failure.errno in said else f" ({failure.errno})"
    code, text = Code.LOAD_FAILED, f"{said}{named}"
    if failure.type_supported is False:
        code, text = (
            Code.UNSUPPORTED_PROGRAM_TYPE,
            f"this kernel has no program type {program.type}",
        )
        return Reason(code, text)
    match failure.errno:
        case "ENOMEM":
            code, text = Code.NO_MEMORY, "the kernel had no memory to load it"
        case "E2BIG" if instructions is not None and instructions > _FEW_INSTRUCTIONS:
            code = Code.TOO_COMPLEX
            text = f"it has {instructions:,} instructions, more than this kernel takes"
        case "EINVAL" | "E2BIG" if program.section:
            # bpf_prog_load and bpf_prog_load_check_attach of kernel/bpf/syscall.c refuse flags and
            # attach types that they do not know before the verifier could say anything.
            code = Code.UNSUPPORTED_ATTACH_TYPE
            text = (
                f"this kernel has the program type {program.type}, but refuses the attach type or "
                f"the flags that the section {program.section} stands for ({failure.errno})"
            )
        case "ENOSYS":
            code = Code.UNSUPPORTED_PROGRAM_TYPE
            text = "this kernel has no bpf system call (CONFIG_BPF_SYSCALL)"
        case "EFAULT":
            text = (
                "the verifier gave up (EFAULT) without a log: most often because the program has "
                "too many jumps, otherwise because of a bug in the verifier"
            )
    return Reason(code, text)
