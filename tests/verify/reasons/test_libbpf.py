"""Words of libbpf, each with its code."""

from typing import Any

import pytest

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons.explain import reason_of
from bpfmatrix.verify.reasons.facts import Failure, KernelFacts, ProgramFacts

FENTRY = ProgramFacts("tracing", "?fentry/no_such", "no_such")


def told(*words: str, program: ProgramFacts = FENTRY, **keys: Any) -> tuple[Code, str]:
    failure = Failure.parse({"step": "load", "errno": "EINVAL", "words": list(words), **keys})
    found = reason_of(failure, program, KernelFacts())
    return found.code, found.text


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (
            "libbpf: prog 'x': failed to find kernel BTF type ID of 'no_such': -ESRCH",
            Code.ATTACH_TARGET_MISSING,
            "this kernel has no function no_such",
        ),
        (
            "prog 'x': missing BPF prog type, check ELF section name 'nonsense/x'",
            Code.UNKNOWN_SECTION,
            "nonsense/x",
        ),
        (
            "kernel BTF is missing at '/sys/kernel/btf/vmlinux', was it enabled?",
            Code.MISSING_BTF,
            "CONFIG_DEBUG_INFO_BTF",
        ),
        ("BTF is required, but is missing or corrupted.", Code.MISSING_BTF, "clang -g"),
        (
            "Error loading .BTF into kernel: -EINVAL. BTF is mandatory, can't proceed.",
            Code.BAD_BTF,
            "refuses the object's BTF, which it needs: -EINVAL",
        ),
        ("failed to open system Kconfig", Code.MISSING_KCONFIG, "is unknown"),
        (
            "extern (kcfg) 'CONFIG_HZ': value 'y' implies bool, tristate, or char type",
            Code.MISSING_KCONFIG,
            "CONFIG_HZ",
        ),
        (
            "extern 'CONFIG_NONE' (strong): not resolved",
            Code.MISSING_KCONFIG,
            "this kernel's configuration has no CONFIG_NONE",
        ),
        ("extern 'init_none' (strong): not resolved", Code.MISSING_KSYM, "no symbol init_none"),
        (
            "extern (var ksym) 'none': not found in kernel BTF",
            Code.MISSING_KSYM,
            "no symbol none",
        ),
        (
            "extern (var ksym) 'runqueues': incompatible types, expected [7] struct rq, but kernel "
            "has [9] struct other",
            Code.MISSING_KSYM,
            "runqueues has another type",
        ),
        (
            "extern (func ksym) 'bpf_none': not found in kernel or module BTFs",
            Code.UNSUPPORTED_KFUNC,
            "no kfunc bpf_none",
        ),
        (
            "extern (func ksym) 'bpf_some': func_proto [9] incompatible with vmlinux [11]",
            Code.UNSUPPORTED_KFUNC,
            "other parameters",
        ),
        (
            "struct_ops init_kern: struct bpf_struct_ops_sched_ext_ops is not found in kernel BTF",
            Code.ATTACH_TARGET_MISSING,
            "no struct_ops sched_ext_ops",
        ),
        (
            "struct_ops init_kern: struct dummy_ops.none is not found in kernel BTF",
            Code.ATTACH_TARGET_MISSING,
            "no member none, which dummy_ops sets",
        ),
        (
            "struct_ops init_kern tcp: Cannot find member new_member in kernel BTF",
            Code.ATTACH_TARGET_MISSING,
            "no member new_member",
        ),
        (
            "prog 'x': relo #3: relocation decision ambiguity: success 1 != success 2",
            Code.RELOCATION_FAILED,
            "ambiguity",
        ),
        (
            "elf: legacy map definitions in 'maps' section are not supported by libbpf v1.0+",
            Code.UNSUPPORTED_BY_LOADER,
            "`.maps`",
        ),
        ("elf: sec 'x': corrupted", Code.BAD_OBJECT, "corrupted"),
        ("sec '.relxdp': invalid offset 0x8 for relo #1", Code.BAD_OBJECT, "invalid offset"),
        (
            "prog 'x': failed to find BPF program (FD 4) BTF ID for 'new': -ESRCH",
            Code.ATTACH_TARGET_MISSING,
            "no program of the given objects has the function new",
        ),
    ],
)
def test_words_have_their_code(words: str, code: Code, part: str) -> None:
    found, reason = told(words.removeprefix("libbpf: "), "failed to load object 'x.o'")
    assert found is code
    assert part in reason


def test_a_cause_comes_before_its_consequences() -> None:
    code, _ = told(
        "failed to perform CO-RE relocations: -ENOENT",
        "kernel BTF is missing at '/sys/kernel/btf/vmlinux', was CONFIG_DEBUG_INFO_BTF enabled?",
    )
    assert code is Code.MISSING_BTF


@pytest.mark.parametrize(
    ("section", "type", "name", "words"),
    [
        ("tp/sched/none", "tracepoint", "sched/none", "tracepoint sched/none"),
        ("tp_btf/none", "tracing", "none", "tracepoint none"),
        ("lsm/none", "lsm", "none", "LSM hook none"),
        ("iter.s/none", "tracing", "none", "iterator none"),
        ("kprobe/none", "kprobe", "none", "function none"),
    ],
)
def test_a_target_is_named_as_what_it_is(section: str, type: str, name: str, words: str) -> None:
    program = ProgramFacts(type, section, name)
    code, reason = told(program=program, step="target")
    assert code is Code.ATTACH_TARGET_MISSING
    assert f"this kernel has no {words}" in reason


def test_a_target_in_a_module_that_is_not_loaded_names_it() -> None:
    asked = []

    def module_of(kind: str, name: str) -> str:
        asked.append((kind, name))
        return "nf_tables"

    failure = Failure.parse({"step": "target", "errno": "ESRCH"})
    program = ProgramFacts("tracing", "fentry/nft_do_chain", "nft_do_chain")
    found = reason_of(failure, program, KernelFacts(module_of=module_of))
    assert found.code is Code.MISSING_MODULE
    assert "`modules: [nf_tables]`" in found.text
    assert asked == [("function", "nft_do_chain")]


def test_without_btf_of_the_kernel_no_target_is_missing() -> None:
    failure = Failure.parse({"step": "target", "errno": "ESRCH"})
    bare = KernelFacts(has_btf=False)
    assert reason_of(failure, FENTRY, bare).code is Code.MISSING_BTF
    kprobe = ProgramFacts("kprobe", "kprobe/no_such", "no_such")
    assert reason_of(failure, kprobe, bare).code is Code.ATTACH_TARGET_MISSING


def test_broken_btf_is_told_from_none() -> None:
    code, _ = told(
        "Error loading ELF section .BTF: -EINVAL.",
        "BTF is required, but is missing or corrupted.",
        step="open",
    )
    assert code is Code.BAD_BTF
