"""Words of cilium/ebpf and of aya, each with its code."""

import pytest

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons.explain import reason_of
from bpfmatrix.verify.reasons.facts import Failure, KernelFacts, ProgramFacts

FENTRY = ProgramFacts("tracing", "fentry/no_such", "no_such")


def told(loader: str, step: str, words: str) -> tuple[Code, str]:
    failure = Failure.parse({"step": step, "words": [words, "and what follows from it"]})
    found = reason_of(failure, FENTRY, KernelFacts(), loader)
    return found.code, found.text


@pytest.mark.parametrize(
    ("step", "words", "code", "part"),
    [
        (
            "open",
            'load relocations: section "socket": reference to "z" in section SHN_UNDEF+5: not '
            "supported",
            Code.UNSUPPORTED_BY_LOADER,
            'reference to "z"',
        ),
        (
            "relocate",
            'program x: resolve .kconfig: config option "CONFIG_NONE" does not exist in kconfig',
            Code.MISSING_KCONFIG,
            "has no CONFIG_NONE",
        ),
        (
            "relocate",
            'resolve .kconfig: config option "LINUX_HAS_BPF_COOKIE" does not exist in kconfig',
            Code.UNSUPPORTED_BY_LOADER,
            "no value for LINUX_HAS_BPF_COOKIE",
        ),
        (
            "relocate",
            "resolve .kconfig: cannot find a kconfig file: neither /boot/config-6.1 nor "
            "/proc/config.gz provide a kconfig",
            Code.MISSING_KCONFIG,
            "is unknown",
        ),
        (
            "open",
            'variable LINUX_KERNEL_VERSION must be a 32 bits integer, got Typedef:"__u32"',
            Code.UNSUPPORTED_BY_LOADER,
            "LINUX_KERNEL_VERSION",
        ),
        (
            "relocate",
            "program x: resolve .ksyms: kernel is missing symbol: init_none",
            Code.MISSING_KSYM,
            "no symbol init_none",
        ),
        (
            "relocate",
            'program x: fixing up kfuncs: kfunc "bpf_none": not supported',
            Code.UNSUPPORTED_KFUNC,
            "no kfunc bpf_none",
        ),
        (
            "target",
            "program x: attach Tracing/TraceFEntry: find target for fentry: not found",
            Code.ATTACH_TARGET_MISSING,
            "no function no_such",
        ),
        ("target", "multiple matches", Code.ATTACH_TARGET_MISSING, "several functions"),
        (
            "btf",
            "program x: load BTF: invalid argument",
            Code.BAD_BTF,
            "refuses the object's BTF: invalid argument",
        ),
        (
            "load",
            'program pd: Call at insn 2: symbol "scale": unsatisfied program reference',
            Code.BAD_OBJECT,
            "link the objects first",
        ),
        ("relocate", "apply CO-RE relocations: load kernel spec: no", Code.MISSING_BTF, "CONFIG_"),
    ],
)
def test_words_of_cilium_ebpf(step: str, words: str, code: Code, part: str) -> None:
    found, reason = told("cilium-ebpf", step, words)
    assert found is code
    assert part in reason


@pytest.mark.parametrize(
    ("step", "words", "code", "part"),
    [
        ("open", "unsupported relocation target", Code.UNSUPPORTED_BY_LOADER, "unsupported"),
        ("open", "no BTF parsed for object", Code.MISSING_BTF, "clang -g"),
        (
            "relocate",
            "applying relocation `FieldByteOffset` missing target BTF info for type `7` at "
            "instruction #3",
            Code.RELOCATION_FAILED,
            "a type or a field",
        ),
        (
            "relocate",
            "strong extern `init_none` not resolvable (not in kernel BTF or kallsyms)",
            Code.MISSING_KSYM,
            "no symbol init_none",
        ),
        (
            "relocate",
            "function 0x40 not found while relocating `x`",
            Code.UNSUPPORTED_BY_LOADER,
            "0x40",
        ),
        ("relocate", "extern `scale` not found", Code.BAD_OBJECT, "link the objects first"),
        ("open", "invalid program section `nonsense`", Code.UNKNOWN_SECTION, "nonsense"),
        (
            "btf",
            "the BPF_BTF_LOAD syscall returned Invalid argument (os error 22)",
            Code.BAD_BTF,
            "refuses the object's BTF",
        ),
        ("attach", "error resolving symbol", Code.ATTACH_TARGET_MISSING, "symbol"),
        ("attach", "something else", Code.ATTACH_FAILED, "something else"),
    ],
)
def test_words_of_aya(step: str, words: str, code: Code, part: str) -> None:
    found, reason = told("aya", step, words)
    assert found is code
    assert part in reason
