"""What each reason code means, and what to do about it: the report shows it beside the code.

The texts are Markdown of which only `code` and [links](https://example.org) are used. The table in
docs/reason-codes.md is made from them by `invoke docs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bpfmatrix.results.verification import Code

__all__ = ["EXPLANATIONS", "Explanation"]


@dataclass(frozen=True)
class Explanation:
    """The meaning of a code, and what to do about it, each in Markdown."""

    meaning: str
    advice: str


EXPLANATIONS: Mapping[Code, Explanation] = {
    Code.VERIFIER_REJECTED: Explanation(
        "The verifier rejected the program. Its last message says why, and the last line of "
        "source before that says where.",
        "Fix the program: often a check must move closer to the access for this kernel's "
        "verifier. `invoke debug` stops in the verifier and shows its source.",
    ),
    Code.TOO_COMPLEX: Explanation(
        "The verifier reached its limit of instructions (a million since 5.2), states or jumps.",
        "Shorten loops, or use `bpf_loop` if the kernel has it; split the program with tail "
        "calls; make functions global, so that each is verified once.",
    ),
    Code.UNSUPPORTED_PROGRAM_TYPE: Explanation(
        "This kernel lacks this program type: it refused a minimal probe program too.",
        "Declare the program optional, give it a variant, or declare the kernel too old.",
    ),
    Code.UNSUPPORTED_ATTACH_TYPE: Explanation(
        "This kernel has the program type, but refuses the attach type or the flags that the "
        "section stands for, such as `xdp.frags` before 5.18. The kernel says only `EINVAL` "
        "or `E2BIG`, without a log.",
        "As for `unsupported-program-type`.",
    ),
    Code.UNSUPPORTED_MAP_TYPE: Explanation(
        "This kernel lacks this map type, according to a probe. Programs that do not use the "
        "map are not affected.",
        "Choose the map's type at run time, with a variant of the program for each, as for "
        "`ringbuf` and `perf_event_array`.",
    ),
    Code.UNSUPPORTED_HELPER: Explanation(
        "This kernel lacks this helper, at least for this program type.",
        "Check `bpf_core_enum_value_exists(enum bpf_func_id, ...)` first: the verifier skips "
        "unreachable calls. Or add a variant.",
    ),
    Code.UNSUPPORTED_KFUNC: Explanation(
        "This kernel lacks this kfunc, or has it with other parameters, or not for this "
        "program type.",
        "Declare it `__weak`, and check `bpf_ksym_exists()` first.",
    ),
    Code.UNSUPPORTED_BY_LOADER: Explanation(
        "The loader's library does not know something that the object uses, so it refuses the "
        "object or the program. The kernel was not asked. The reason has the library's words.",
        "Choose another loader with `--loader` or `verify.loader`, if your project can.",
    ),
    Code.UNKNOWN_SECTION: Explanation(
        "The loader's library knows no program type for the section's name. libbpf's are [in "
        "its documentation](https://docs.kernel.org/bpf/libbpf/program_types.html).",
        "Rename the section.",
    ),
    Code.MISSING_BTF: Explanation(
        "The kernel or the object has no BTF, and the program needs it.",
        "Kernels: `CONFIG_DEBUG_INFO_BTF`. Objects: compile with `-g`.",
    ),
    Code.BAD_BTF: Explanation(
        "The object's BTF is broken, or this kernel refuses it and the program needs it.",
        "Rebuild the object with a newer clang, or a newer pahole if pahole wrote the BTF.",
    ),
    Code.RELOCATION_FAILED: Explanation(
        "The program reads a type, a field or an enumeration's value that this kernel lacks. "
        "The reason names it.",
        "Check `bpf_core_field_exists()`, `bpf_core_type_exists()` or the like first, or read "
        "an older flavour of the type (`task_struct___old`).",
    ),
    Code.MISSING_KSYM: Explanation(
        "The program needs a symbol (`__ksym`) that this kernel lacks, or has with another type.",
        "Declare it `__weak`, and check `bpf_ksym_exists()` first.",
    ),
    Code.MISSING_KCONFIG: Explanation(
        "The program reads an option (`__kconfig`) that this kernel's configuration does not "
        "set, or sets to a value of another type; or the configuration is unknown, which "
        "the reason says.",
        "Declare it `__weak`: it is 0 then. An unknown configuration: build the kernel with "
        "`CONFIG_IKCONFIG_PROC`, or use a source that provides `/boot/config-*`.",
    ),
    Code.MISSING_MODULE: Explanation(
        "What the program attaches to, calls or reads is in a module of this kernel that is "
        "not loaded. The reason names the module.",
        "Declare `modules:` for the kernel in `kernels.yaml`.",
    ),
    Code.ATTACH_TARGET_MISSING: Explanation(
        "The target that the section names does not exist: a function, tracepoint, hook or "
        "iterator; for `freplace`, a program with the function. For kprobes, only `--attach` "
        "detects this.",
        "Functions come, go and get inlined: attach to a tracepoint, or make variants "
        "optional. For `freplace`, verify the object together with the one whose function it "
        "replaces.",
    ),
    Code.ATTACH_FAILED: Explanation(
        "The program loaded, but can't be attached.",
        "The reason has the kernel's error, and the link type if this kernel lacks it.",
    ),
    Code.MAP_CREATE_FAILED: Explanation(
        "A map could not be created, although this kernel has its type.",
        "If the project sets the size at run time, it is 0 in the object: use `--map-size "
        "NAME=ENTRIES`. Otherwise this kernel refuses the flags or sizes.",
    ),
    Code.NO_MEMORY: Explanation(
        "The kernel or the loader ran out of the guest's memory.",
        "Raise `qemu.memory` in `kernels.yaml`, or make maps smaller with `--map-size`.",
    ),
    Code.TOO_CLOSE: Explanation(
        "The program loaded, but the verifier processed more instructions than `--max-insns` "
        "allows.",
        "As for `too-complex`.",
    ),
    Code.TIMEOUT: Explanation(
        "Loading exceeded its limit (`verify.limit`, 10 times as long under emulation, or "
        "`--limit`). The object's other programs were still loaded.",
        "Raise the limit if the host is slow; otherwise as for `too-complex`.",
    ),
    Code.LOADER_CRASHED: Explanation(
        "The loader crashed while it read the object or loaded the program.",
        "Report `reason`, which has its last output, and the object.",
    ),
    Code.KERNEL_DIED: Explanation(
        "The kernel panicked, had an oops or fell silent.",
        "See the console's log. It is a kernel bug: `invoke bisect` may find the release that "
        "fixed it.",
    ),
    Code.NOT_RUN: Explanation(
        "The machine ended, or Ctrl-C was pressed, before this program's turn.",
        "See what ended it.",
    ),
    Code.BAD_OBJECT: Explanation(
        "The file is not ELF, not eBPF, of the wrong byte order, without a program (with maps "
        "or `.struct_ops` only), cut off or broken. The other files are loaded all the same.",
        "The reason says which.",
    ),
    Code.DECLARED: Explanation(
        "Skipped: the object or `kernels.yaml` declares this kernel too old.",
        "Nothing. `BPFMATRIX_IGNORE_REQUIREMENTS=1` loads it anyway.",
    ),
    Code.OPTIONAL: Explanation(
        "Skipped: it failed, but its section begins with `?`, `optional` of `kernels.yaml` "
        "names it, or a variant of it loaded. The reason has the code that it would have had.",
        "Nothing.",
    ),
    Code.LOAD_FAILED: Explanation(
        "None of these.",
        "`reason` and `errno` have the kernel's answer, or the library's words.",
    ),
}
