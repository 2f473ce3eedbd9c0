"""The words of aya (aya 0.16, aya-obj 0.6): what they say of an object or a program.

The library's errors are chains, from which its loader makes lines, the cause first. Each rule is a
message of `btf/relocation.rs`, `relocation.rs`, `extern_types.rs`, `obj.rs` or `programs` of these
crates. What the loader can tell from an error's type, such as a missing symbol, is no rule here.
"""

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons import missing, relocation
from bpfmatrix.verify.reasons.facts import Reason
from bpfmatrix.verify.reasons.rules import Rule, rules, says

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = rules(
    (r"no BTF parsed for object", lambda match, context: missing.object_btf()),
    (
        r"error parsing /sys/kernel/btf/|typed ksyms require kernel BTF",
        lambda match, context: missing.kernel_btf(),
    ),
    (
        r"missing target BTF info for type|maximum nesting level reached",
        lambda match, context: relocation.failed(),
    ),
    (
        r"strong extern `([^`]+)` not resolvable",
        lambda match, context: missing.ksym(match[1], context.kernel),
    ),
    (r"^extern `([^`]+)` not found", lambda match, context: missing.other_object(match[1])),
    (
        r"resolution is ambiguous|failed to (?:access|parse) /?(?:proc/)?kallsyms",
        says(Code.MISSING_KSYM),
    ),
    (
        r"invalid program section `([^`]*)`",
        lambda match, context: missing.section(context.program, match[1]),
    ),
    (
        r"BPF_BTF_LOAD syscall returned (.*)",
        lambda match, context: Reason(
            Code.BAD_BTF, f"this kernel refuses the object's BTF: {match[1]}"
        ),
    ),
    (r"error parsing BTF header|invalid BTF|BTF func", says(Code.BAD_BTF)),
    (
        r"could not resolve uprobe target|error resolving symbol|unknown symbol `|"
        r"unknown network interface|no uprobe attach points",
        says(Code.ATTACH_TARGET_MISSING),
    ),
    (
        r"target BPF program does not have BTF loaded",
        lambda match, context: missing.object_btf(),
    ),
    # The library could not relocate what others can.
    (
        r"^unknown symbol, index|not found, referenced by symbol|not found while relocating|"
        r"applying relocation #|BTF function info for|unsupported relocation target",
        says(Code.UNSUPPORTED_BY_LOADER),
    ),
    (r"error parsing ELF data", says(Code.BAD_OBJECT)),
)
