"""Messages of verifiers from 5.4 to 7.3, each with its code."""

import pytest

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons.facts import KernelFacts, Missing, ProgramFacts
from bpfmatrix.verify.reasons.verifier import of_log

XDP = ProgramFacts("xdp", "xdp", "")
STATISTICS = "processed 0 insns (limit 1000000) max_states_per_insn 0 total_states 0\n"


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (
            "R0 invalid mem access 'map_value_or_null'",
            Code.VERIFIER_REJECTED,
            "R0 invalid mem access 'map_value_or_null'",
        ),
        (
            "invalid func unknown#181",
            Code.UNSUPPORTED_HELPER,
            "this kernel has no helper bpf_loop (181)",
        ),
        (
            "invalid func unknown#4711",
            Code.UNSUPPORTED_HELPER,
            "this kernel has no helper of the number 4711",
        ),
        (
            "unknown func bpf_skb_load_bytes#26",
            Code.UNSUPPORTED_HELPER,
            "on this kernel, programs of type xdp can't call bpf_skb_load_bytes",
        ),
        (
            "program of this type cannot use helper bpf_skb_load_bytes#26",
            Code.UNSUPPORTED_HELPER,
            "on this kernel, programs of type xdp can't call bpf_skb_load_bytes",
        ),
        (
            "calling kernel function bpf_cpumask_create is not allowed",
            Code.UNSUPPORTED_KFUNC,
            "on this kernel, programs of type xdp can't call kfunc bpf_cpumask_create",
        ),
        ("JIT does not support calling kernel function", Code.UNSUPPORTED_KFUNC, None),
        (
            "calling kernel function is not supported without CONFIG_DEBUG_INFO_BTF",
            Code.MISSING_BTF,
            None,
        ),
        (
            "invalid func unknown#195896080",
            Code.RELOCATION_FAILED,
            "CO-RE: it uses a type or a field that this kernel does not have",
        ),
        (
            "failed to resolve CO-RE relocation <byte_off> [12] struct task_struct___new.no.way "
            "(0:3:1 @ offset 24)",
            Code.RELOCATION_FAILED,
            "this kernel has no struct task_struct.no.way",
        ),
        (
            "failed to resolve CO-RE relocation <enumval_value> [3] enum bpf_func_id::BPF_x = 9",
            Code.RELOCATION_FAILED,
            "this kernel has no value BPF_x of enum bpf_func_id",
        ),
        (
            "failed to resolve CO-RE relocation <type_size> [3] typedef not_there_t",
            Code.RELOCATION_FAILED,
            "this kernel has no not_there_t",
        ),
        (
            "invalid func unknown#2002000003",
            Code.UNSUPPORTED_KFUNC,
            "it calls a weak kfunc that this kernel does not have, without checking "
            "bpf_ksym_exists first",
        ),
        (
            "kfunc 'bpf_none' is referenced but wasn't resolved",
            Code.UNSUPPORTED_KFUNC,
            "it calls the weak kfunc bpf_none, which this kernel does not have, without checking "
            "bpf_ksym_exists first",
        ),
        (
            "BPF map 'ring' is referenced but wasn't created",
            Code.MAP_CREATE_FAILED,
            "it uses the map ring, which was not made",
        ),
        ("BPF program is too large. Processed 1000001 insn", Code.TOO_COMPLEX, None),
        ("The sequence of 8193 jumps is too complex.", Code.TOO_COMPLEX, None),
        (
            "map 'counts' has to have BTF in order to use bpf_spin_lock",
            Code.MISSING_BTF,
            "map counts has no BTF of its key and value, which bpf_spin_lock needs: declare the "
            "map with __type in the section .maps",
        ),
        ("missing btf func_info", Code.MISSING_BTF, None),
        (
            "attach_btf_id 4 is not a function",
            Code.ATTACH_TARGET_MISSING,
            "attach_btf_id 4 is not a function",
        ),
        (
            "attach_btf_id 0 is not a supported struct",
            Code.ATTACH_TARGET_MISSING,
            "no struct_ops map of its object uses it",
        ),
        ("The address of function x cannot be found", Code.ATTACH_TARGET_MISSING, None),
        ("do_exit() is not modifiable", Code.ATTACH_TARGET_MISSING, None),
        ("attach_btf_id 12 points to disabled hook x", Code.ATTACH_TARGET_MISSING, None),
        (
            "combined stack size of 2 calls is 528. Too large",
            Code.VERIFIER_REJECTED,
            "combined stack size of 2 calls is 528. Too large",
        ),
    ],
)
def test_a_message_has_its_code(message: str, code: Code, reason: str | None) -> None:
    found = of_log(f"{message}\n{STATISTICS}", XDP, KernelFacts())
    assert found is not None
    assert found.code is code
    assert found.text == (message if reason is None else reason)


def test_a_poisoned_call_has_the_name_that_the_loader_knows() -> None:
    log = f"invalid func unknown#195896080\n{STATISTICS}"
    found = of_log(log, XDP, KernelFacts(), Missing("type", "struct file.f_none"))
    assert found is not None
    assert found.text == "this kernel has no struct file.f_none"
    log = f"invalid func unknown#2002000001\n{STATISTICS}"
    found = of_log(log, XDP, KernelFacts(), Missing("kfunc", "bpf_none"))
    assert found is not None
    assert "the weak kfunc bpf_none" in found.text


def test_what_source_lines_say_counts_for_nothing() -> None:
    log = "; missing btf, BPF program is too large\n0: (b7) r0 = 1\nR1 !read_ok\n"
    found = of_log(log, XDP, KernelFacts())
    assert found is not None
    assert (found.code, found.text) == (Code.VERIFIER_REJECTED, "R1 !read_ok")


def test_a_missing_helper_explains_a_complaint_about_its_arguments() -> None:
    lacking = Missing("helper", "181")
    found = of_log(f"unrecognized bpf_ld_imm64 insn\n{STATISTICS}", XDP, KernelFacts(), lacking)
    assert found is not None
    assert found.code is Code.UNSUPPORTED_HELPER
    walked = "0: (b7) r0 = 1\nR1 !read_ok\nprocessed 1 insns (limit 1000000)\n"
    found = of_log(walked, XDP, KernelFacts(), lacking)
    assert found is not None
    assert found.code is Code.VERIFIER_REJECTED


@pytest.mark.parametrize("log", ["", STATISTICS, "\n"])
def test_a_log_without_a_message_says_nothing(log: str) -> None:
    assert of_log(log, XDP, KernelFacts()) is None
