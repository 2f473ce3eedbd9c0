"""What a program needs and the kernel, or an object, does not have: a reason for each kind of it.

The kinds are those of `missing` in docs/loaders.md. The modules for each library's words use the
same functions, so that a cause has one code and one sentence, whichever loader found it.
"""

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons import relocation
from bpfmatrix.verify.reasons.facts import KernelFacts, Missing, ProgramFacts, Reason
from bpfmatrix.verify.reasons.helpers import helper_name

__all__ = [
    "helper",
    "kconfig",
    "kconfig_file",
    "kernel_btf",
    "kfunc",
    "ksym",
    "object_btf",
    "of_missing",
    "other_object",
    "section",
    "struct_ops",
    "target",
    "target_program",
    "unchecked_kfunc",
]

_TRACEPOINTS = ("tp", "tracepoint", "raw_tp", "raw_tracepoint", "tp_btf")
_LSM = ("lsm", "lsm_cgroup")
# The types of programs whose target is found in the kernel's BTF.
_FOUND_BY_BTF = ("tracing", "lsm", "struct_ops")


def kernel_btf() -> Reason:
    """Return the reason of a program that needs the kernel's BTF, if there is none."""
    return Reason(
        Code.MISSING_BTF,
        "it needs the kernel's BTF, and this kernel has none (CONFIG_DEBUG_INFO_BTF)",
    )


def object_btf() -> Reason:
    """Return the reason of a program whose object has no BTF, or BTF that can't be read."""
    return Reason(
        Code.MISSING_BTF, "its object has no BTF that can be read: compile it with clang -g"
    )


def helper(number: int) -> Reason:
    """Return the reason of a program that calls a helper which the kernel does not have."""
    name = helper_name(number)
    what = f"helper {name} ({number})" if name else f"helper of the number {number}"
    return Reason(Code.UNSUPPORTED_HELPER, f"this kernel has no {what}")


def kfunc(name: str, kernel: KernelFacts) -> Reason:
    """Return the reason of a program that needs a kfunc which the kernel does not have."""
    if kernel.has_btf is False:
        return kernel_btf()
    return _in_module(f"kfunc {name}", "function", name, kernel) or Reason(
        Code.UNSUPPORTED_KFUNC, f"this kernel has no kfunc {name}"
    )


def unchecked_kfunc(name: str = "") -> Reason:
    """Return the reason of a program that calls a weak kfunc which the kernel does not have."""
    what = f"the weak kfunc {name}, which" if name else "a weak kfunc that"
    return Reason(
        Code.UNSUPPORTED_KFUNC,
        f"it calls {what} this kernel does not have, without checking bpf_ksym_exists first",
    )


def ksym(name: str, kernel: KernelFacts) -> Reason:
    """Return the reason of a program that reads a kernel symbol which the kernel does not have."""
    return _in_module(f"symbol {name}", "symbol", name, kernel) or Reason(
        Code.MISSING_KSYM, f"this kernel has no symbol {name}, or its BTF lacks it"
    )


def kconfig(name: str) -> Reason:
    """Return the reason of a program that reads an option which the kernel does not have."""
    if name.startswith("LINUX_"):  # no option, but a value that libbpf computes
        text = f"the loader's library has no value for {name}"
        return Reason(Code.UNSUPPORTED_BY_LOADER, text)
    return Reason(Code.MISSING_KCONFIG, f"this kernel's configuration has no {name}")


def kconfig_file(name: str = "") -> Reason:
    """Return the reason of a program that reads an option of an unknown configuration."""
    what = f"the option {name}" if name else "an option of the kernel's configuration"
    return Reason(
        Code.MISSING_KCONFIG,
        f"it reads {what}, and the configuration of this kernel is unknown: the kernel has no "
        "/proc/config.gz (CONFIG_IKCONFIG_PROC), and its source gave no file with it",
    )


def other_object(symbol: str) -> Reason:
    """Return the reason of an object that needs a symbol of another one."""
    return Reason(
        Code.BAD_OBJECT,
        f"its symbol {symbol} is in another object: link the objects first, with "
        "`bpftool gen object`",
    )


def section(program: ProgramFacts, name: str = "") -> Reason:
    """Return the reason of a program whose section tells no program type."""
    return Reason(
        Code.UNKNOWN_SECTION,
        f"the loader knows no program type for the section {name or program.section}",
    )


def struct_ops(name: str, kernel: KernelFacts) -> Reason:
    """Return the reason of a program for a struct_ops type which the kernel does not have.

    A name such as `dummy_1.test` is a member that the map sets, and that the kernel's type lacks.
    """
    map, dot, member = name.partition(".")
    if dot:
        return Reason(
            Code.ATTACH_TARGET_MISSING,
            f"this kernel's struct_ops has no member {member}, which {map} sets",
        )
    return _in_module(f"struct_ops {name}", "struct_ops", name, kernel) or Reason(
        Code.ATTACH_TARGET_MISSING, f"this kernel has no struct_ops {name}, or its BTF lacks it"
    )


def target_program(name: str) -> Reason:
    """Return the reason of an `freplace` whose function no program has."""
    return Reason(
        Code.ATTACH_TARGET_MISSING,
        f"no program of the given objects has the function {name}"
        if name
        else "no program to extend was found: verify the object together with the one that it "
        "extends",
    )


def target(program: ProgramFacts, kernel: KernelFacts, name: str = "") -> Reason:
    """Return the reason of a program whose target the kernel does not have."""
    name = name or program.attach_to
    if kernel.has_btf is False and program.type in _FOUND_BY_BTF:
        return kernel_btf()
    if not name:
        return Reason(Code.ATTACH_TARGET_MISSING, f"the section {program.section} names no target")
    if program.type == "struct_ops":
        return struct_ops(name, kernel)
    kind = _kind(program)
    # Tracepoints, iterators and hooks are found in BTF by a function of a longer name.
    symbol = "symbol" if kind == "tracepoint" else "function"
    found = _in_module(f"{kind} {name}", symbol, _symbol(kind, name), kernel)
    return found or Reason(
        Code.ATTACH_TARGET_MISSING, f"this kernel has no {kind} {name}, or its BTF lacks it"
    )


def _kind(program: ProgramFacts) -> str:
    """Return what a program is attached to, for people."""
    if program.kind in _TRACEPOINTS or program.type in ("tracepoint", "raw_tracepoint"):
        return "tracepoint"
    if program.kind in _LSM or program.type == "lsm":
        return "LSM hook"
    return "iterator" if program.kind == "iter" else "function"


def _symbol(kind: str, name: str) -> str:
    match kind:
        case "tracepoint":
            # `tp/category/name` has a category before it.
            return f"__tracepoint_{name.rpartition('/')[2]}"
        case "LSM hook":
            return f"bpf_lsm_{name}"
        case "iterator":
            return f"bpf_iter_{name}"
    return name.partition("+")[0]


def _in_module(what: str, kind: str, name: str, kernel: KernelFacts) -> Reason | None:
    """Return the reason of a program that needs a module which is not loaded; None if none has it.

    `kind` and `name` are what `KernelFacts.module_of` takes.
    """
    module = kernel.module_of(kind, name)
    if not module:
        return None
    return Reason(
        Code.MISSING_MODULE,
        f"{what} is in the module {module}, which is not loaded: "
        f"declare `modules: [{module}]` for this kernel",
    )


def of_missing(missing: Missing, program: ProgramFacts, kernel: KernelFacts) -> Reason | None:
    """Return the reason of what a loader knows to be missing; None for an unknown kind."""
    name, found = missing.name, None
    match missing.kind:
        case "kernel-btf":
            found = kernel_btf()
        case "object-btf":
            found = object_btf()
        case "module":
            found = Reason(
                Code.MISSING_MODULE,
                f"it needs the module {name}, which is not loaded: "
                f"declare `modules: [{name}]` for this kernel",
            )
        case "ksym":
            found = ksym(name, kernel)
        case "kfunc":
            found = kfunc(name, kernel) if name else unchecked_kfunc()
        case "kconfig":
            found = kconfig(name)
        case "kconfig-file":
            found = kconfig_file(name)
        case "type":
            found = relocation.failed(name)
        case "target":
            found = target(program, kernel, name)
        case "target-program":
            found = target_program(name)
        case "section":
            found = section(program, name)
        case "helper" if name.isdigit():
            found = helper(int(name))
    return found
