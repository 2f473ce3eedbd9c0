"""The words of libbpf (1.8, tools/lib/bpf of Linux): what they say of an object or a program.

Each rule is a message of libbpf.c, relo_core.c, btf.c or usdt.c. Rules for a cause come before
those for its consequences, as libbpf prints a line for each level of its calls.
"""

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons import missing
from bpfmatrix.verify.reasons.facts import Reason
from bpfmatrix.verify.reasons.rules import Rule, rules, says

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = rules(
    # libbpf_find_kernel_btf, btf__load_vmlinux_btf, and bpf_object__load_vmlinux_btf.
    (
        r"kernel BTF is missing at|failed to find valid kernel BTF|Error loading vmlinux BTF|"
        r"vmlinux BTF is not found",
        lambda match, context: missing.kernel_btf(),
    ),
    # bpf_object__init_btf, bpf_object_prepare. Of broken BTF, libbpf says both.
    (r"Error loading ELF section \.BTF|BTF types data is malformed", says(Code.BAD_BTF)),
    (
        r"BTF is required, but is missing or corrupted|The target program doesn't have BTF",
        lambda match, context: missing.object_btf(),
    ),
    (
        r"Error loading \.BTF into kernel: (.*?)\.? BTF is mandatory",
        lambda match, context: Reason(
            Code.BAD_BTF, f"this kernel refuses the object's BTF, which it needs: {match[1]}"
        ),
    ),
    # Externs: bpf_object__read_kconfig_file, bpf_object__resolve_ksym_*, ..._resolve_externs.
    (r"failed to open system Kconfig", lambda match, context: missing.kconfig_file()),
    (r"extern \(kcfg\) '(\S+)': (?:value|invalid)", says(Code.MISSING_KCONFIG)),
    (
        r"extern \(func ksym\) '(\S+)': not found in",
        lambda match, context: missing.kfunc(match[1], context.kernel),
    ),
    (
        r"extern \(func ksym\) '(\S+)': func_proto",
        lambda match, context: Reason(
            Code.UNSUPPORTED_KFUNC, f"this kernel's kfunc {match[1]} has other parameters"
        ),
    ),
    (r"extern \(func ksym\)", says(Code.UNSUPPORTED_KFUNC)),
    (
        r"extern \(var ksym\) '(\S+)': not found in",
        lambda match, context: missing.ksym(match[1], context.kernel),
    ),
    (
        r"extern \(var ksym\) '(\S+)': incompatible types",
        lambda match, context: Reason(
            Code.MISSING_KSYM, f"this kernel's symbol {match[1]} has another type"
        ),
    ),
    (
        r"extern \(ksym\) '(\S+)': resolution is ambiguous",
        lambda match, context: Reason(
            Code.MISSING_KSYM, f"this kernel has several symbols named {match[1]}"
        ),
    ),
    (
        r"extern '((?:CONFIG|LINUX)_\S+)' \(strong\): not resolved",
        lambda match, context: missing.kconfig(match[1]),
    ),
    (
        r"extern '(\S+)' \(strong\): not resolved",
        lambda match, context: missing.ksym(match[1], context.kernel),
    ),
    (r"failed to open /proc/kallsyms", says(Code.MISSING_KSYM)),
    # libbpf_prepare_prog_load, libbpf_find_attach_btf_id, bpf_object_load_prog.
    (
        r"missing BPF prog type, check ELF section name '([^']*)'",
        lambda match, context: missing.section(context.program, match[1]),
    ),
    (
        r"SEC\(\"struct_ops\"\) program isn't referenced anywhere",
        lambda match, context: Reason(
            Code.ATTACH_TARGET_MISSING, "no struct_ops map of its object uses it"
        ),
    ),
    (
        r"failed to find kernel BTF type ID of '([^']*)'",
        lambda match, context: missing.target(context.program, context.kernel, match[1]),
    ),
    (
        r"failed to find BPF program \(FD -?\d+\) BTF ID for '([^']*)'",
        lambda match, context: missing.target_program(match[1]),
    ),
    (r"(\S+) is not found in prog's BTF", lambda match, context: missing.target_program(match[1])),
    (r"attach program FD is not set", lambda match, context: missing.target_program("")),
    (
        r"no BTF-based attach target is specified",
        lambda match, context: missing.target(context.program, context.kernel),
    ),
    (
        r"struct_ops init_kern: struct (\S+) is not found in kernel BTF",
        lambda match, context: missing.struct_ops(
            match[1].removeprefix("bpf_struct_ops_"), context.kernel
        ),
    ),
    (
        r"struct_ops init_kern (\S+): Cannot find member (\S+) in kernel BTF",
        lambda match, context: Reason(
            Code.ATTACH_TARGET_MISSING,
            f"this kernel's struct_ops has no member {match[2]}, which {match[1]} sets",
        ),
    ),
    (r"struct_ops init_kern", says(Code.ATTACH_TARGET_MISSING)),
    # bpf_core_calc_relo_insn, bpf_core_apply_relo, bpf_object__relocate_core.
    (
        r"relo #?\d+: (?:target candidate search failed|field offset ambiguity|"
        r"relocation decision ambiguity|error matching candidate|failed to relocate|"
        r"unexpected insn|insn #\d+|trying to relocate|unrecognized CO-RE|parsing \[|<)|"
        r"unexpected kind \S+ relocated|failed to perform CO-RE relocations|"
        r"can't be (?:satisfied for bitfield|applied to array access)|failed to parse target BTF",
        says(Code.RELOCATION_FAILED),
    ),
    # Attaching: perf_event_open_tracepoint, bpf_program__attach_*, usdt.c.
    (
        r"failed to determine tracepoint '([^']*)' perf event ID: -ENOENT",
        lambda match, context: missing.target(context.program, context.kernel, match[1]),
    ),
    (
        r"failed to create k(?:ret)?probe '([^'+]+)\+?[^']*' perf event: -ENOENT",
        lambda match, context: missing.target(context.program, context.kernel, match[1]),
    ),
    (
        r"failed to attach to raw tracepoint '([^']*)': -(?:ENOENT|EINVAL)",
        lambda match, context: missing.target(context.program, context.kernel, match[1]),
    ),
    (
        r"failed to resolve full path for|elf: failed to (?:open|find symbol)|"
        r"elf: '[^']*' is 0 in symtab|usdt: no USDT notes|failed to find a unique match",
        lambda match, context: Reason(
            Code.ATTACH_TARGET_MISSING if context.failure.step == "attach" else Code.BAD_OBJECT,
            context.line,
        ),
    ),
    # What is wrong with the file itself.
    (
        r"failed to find BTF for extern '([^']*)'",
        lambda match, context: missing.other_object(match[1]),
    ),
    (
        r"^elf: legacy map definitions",
        lambda match, context: Reason(
            Code.UNSUPPORTED_BY_LOADER,
            "its maps are in the section `maps`, which libbpf no longer reads since 1.0: declare "
            "them in `.maps`",
        ),
    ),
    (
        r"is static and not supported|map '[^']*': (?:unknown field|multi-level|only single|"
        r"unsupported)|extern .*unsupported|unrecognized (?:virtual )?extern|"
        r"loading non-native endianness",
        says(Code.UNSUPPORTED_BY_LOADER),
    ),
    (
        r"^(?:elf|sec '[^']*'|struct_ops (?:init|reloc)\b.*|\.maps relo .*): ?|"
        r"invalid license section|invalid kver section|stripped object file|"
        r"failed to find extern|"
        r"failed to resolve size of extern|"
        r"bad (?:call|map|data|arena data|subprog addr) relo|invalid relo against|"
        r"extern relo failed|map relo failed|data relo failed|incorrect bpf_call opcode|"
        r"no \.text section found|failed to relocate (?:calls|data)|exception[ _]callback|"
        r"map '[^']*': (?:attr|conflicting|key |value |can't determine|should be|"
        r"map type isn't|unexpected|invalid|inner def)|"
        r"map '\.jumptables'|DATASEC '\S+' not found",
        says(Code.BAD_OBJECT),
    ),
)
