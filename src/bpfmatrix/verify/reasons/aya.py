"""The words of aya: what they say of an object or a program.

The library's errors are chains, from which its loader makes lines, the cause first. Each rule is a
message of aya's `programs`, `maps`, `bpf` and `sys` modules, or of aya-obj.
"""

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons import missing
from bpfmatrix.verify.reasons.facts import Reason
from bpfmatrix.verify.reasons.rules import Rule, rules, says

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = rules(
    (r"BTF is not available|no BTF parsed for object", lambda match, context: missing.object_btf()),
    (
        r"target BTF not found|/sys/kernel/btf/vmlinux",
        lambda match, context: missing.kernel_btf(),
    ),
    (
        r"invalid(?: program)? section `?([^`\s]+)`?",
        lambda match, context: missing.section(context.program, match[1]),
    ),
    (
        r"error relocating `(\S+)`|relocation #\d+|the BPF function .* relocation",
        says(Code.RELOCATION_FAILED),
    ),
    (
        r"no BTF type (?:named|found for) .*|BTF type .* not found|unknown BTF type `?([^`\s]+)`?",
        lambda match, context: missing.target(context.program, context.kernel),
    ),
    (r"unexpected BTF|invalid BTF|error parsing BTF|BTF error", says(Code.BAD_BTF)),
    (
        r"extern symbol `?([^`\s]+)`? .*not found",
        lambda match, context: (
            Reason(Code.MISSING_KCONFIG, context.line)
            if match[1].startswith("CONFIG_")
            else missing.ksym(match[1], context.kernel)
        ),
    ),
)
