"""The words of cilium/ebpf (v0.22): what they say of an object or a program.

The library's errors are chains in one line, the outermost part first, such as
`program x: apply CO-RE relocations: ...`. Each rule is a part of elf_reader.go, linker.go, prog.go
or collection.go.
"""

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons import missing, relocation
from bpfmatrix.verify.reasons.facts import Reason
from bpfmatrix.verify.reasons.rules import Rule, rules, says

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = rules(
    (
        r"load kernel spec|load target BTF: .*no BTF found",
        lambda match, context: missing.kernel_btf(),
    ),
    (
        r"cannot find a kconfig file|neither \S+ nor /proc/config\.gz",
        lambda match, context: missing.kconfig_file(),
    ),
    (r"bad CO-RE relocation", lambda match, context: relocation.failed()),
    (
        r"apply CO-RE relocations: (.*)",
        lambda match, context: Reason(Code.RELOCATION_FAILED, match[1]),
    ),
    # The library reads it only as another type than libbpf.
    (r"variable LINUX_\w+ must be", says(Code.UNSUPPORTED_BY_LOADER)),
    (
        r"symbol \"([^\"]+)\": unsatisfied program reference",
        lambda match, context: missing.other_object(match[1]),
    ),
    (
        r"config option \"(\w+)\" does not exist",
        lambda match, context: missing.kconfig(match[1]),
    ),
    (
        r"kernel is missing symbol: ([^,\s]+)",
        lambda match, context: missing.ksym(match[1], context.kernel),
    ),
    (
        r"(?:resolve|load virtual) \.?kconfig(?: section)?: (.*)",
        lambda match, context: Reason(Code.MISSING_KCONFIG, match[1]),
    ),
    (
        r"resolve required ksyms: ([^\s,:]+)(?:,\S+)?: ",
        lambda match, context: missing.ksym(match[1], context.kernel),
    ),
    (
        r"resolve \.?ksyms: (?:symbol )?(.*)",
        lambda match, context: Reason(Code.MISSING_KSYM, match[1]),
    ),
    (
        r"kfunc \"([^\"]+)\": not supported",
        lambda match, context: missing.kfunc(match[1], context.kernel),
    ),
    (r"unknown kfunc", lambda match, context: missing.unchecked_kfunc()),
    (
        r"fixing up kfuncs: (.*)",
        lambda match, context: Reason(Code.UNSUPPORTED_KFUNC, match[1]),
    ),
    (
        r"load BTF maps: .*missing BTF|^missing BTF|struct_ops section \S+ missing BTF",
        lambda match, context: missing.object_btf(),
    ),
    (
        r"(?:load BTF|marshal ext_infos): (.*)",
        lambda match, context: Reason(
            Code.BAD_BTF,
            match[1]
            if context.failure.step == "open"
            else f"this kernel refuses the object's BTF: {match[1]}",
        ),
    ),
    (
        r"attach to ambiguous kernel symbol|ambiguous kernel symbol|multiple matches",
        lambda match, context: Reason(
            Code.ATTACH_TARGET_MISSING,
            f"this kernel has several functions named {context.program.attach_to}",
        ),
    ),
    (
        r"member \"?([^\s\"]+)\"? not found in (\S+)",
        lambda match, context: Reason(
            Code.ATTACH_TARGET_MISSING, f"this kernel's {match[2]} has no member {match[1]}"
        ),
    ),
    (
        r"attach [A-Z]\w*/\w+: |lookup struct_ops kern type|find target (?:for|in)|"
        r"not found in kernel|token \S+: not found",
        lambda match, context: missing.target(context.program, context.kernel),
    ),
    (r"unexpected machine type|bad magic number|can't parse relocation", says(Code.BAD_OBJECT)),
)
