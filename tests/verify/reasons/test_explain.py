"""Facts without known words: what is missing, maps, and the kernel's errors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons.explain import reason_of
from bpfmatrix.verify.reasons.facts import Failure, KernelFacts, ProgramFacts
from bpfmatrix.verify.reasons.helpers import helper_name
from tests.verify.test_collector import JSON

PROGRAM = ProgramFacts("sched_cls", "tcx/ingress", "")


def told(instructions: int | None = None, **keys: Any) -> tuple[Code, str]:
    found = reason_of(
        Failure.parse({"step": "load", **keys}), PROGRAM, KernelFacts(), "libbpf", instructions
    )
    return found.code, found.text


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("kernel-btf", "", Code.MISSING_BTF),
        ("object-btf", "", Code.MISSING_BTF),
        ("module", "nf_tables", Code.MISSING_MODULE),
        ("ksym", "init_none", Code.MISSING_KSYM),
        ("kfunc", "bpf_none", Code.UNSUPPORTED_KFUNC),
        ("kconfig", "CONFIG_NONE", Code.MISSING_KCONFIG),
        ("kconfig-file", "", Code.MISSING_KCONFIG),
        ("type", "struct none", Code.RELOCATION_FAILED),
        ("target", "none", Code.ATTACH_TARGET_MISSING),
        ("target-program", "none", Code.ATTACH_TARGET_MISSING),
        ("section", "nonsense", Code.UNKNOWN_SECTION),
        ("helper", "181", Code.UNSUPPORTED_HELPER),
    ],
)
def test_each_kind_of_what_is_missing_has_its_code(kind: str, name: str, code: Code) -> None:
    found, reason = told(missing={"kind": kind, "name": name}, words=["something"], errno="EINVAL")
    assert found is code
    assert (helper_name(181) if kind == "helper" else name) in reason


def test_an_unknown_kind_of_what_is_missing_leaves_the_words() -> None:
    assert told(missing={"kind": "moon", "name": "x"}, words=["no moon"], errno="EPERM") == (
        Code.LOAD_FAILED,
        "no moon (EPERM)",
    )


@pytest.mark.parametrize(
    ("keys", "code", "part"),
    [
        ({"errno": "EINVAL", "type_supported": False}, Code.UNSUPPORTED_MAP_TYPE, "map type arena"),
        ({"errno": "ENOMEM"}, Code.NO_MEMORY, "no memory for map m (arena, 1,024 entries)"),
        ({"errno": "E2BIG"}, None, "map m (arena) is larger than this kernel takes"),
        ({"errno": "EINVAL", "words": ["map 'm': failed to create: -EINVAL"]}, None, "-EINVAL"),
        ({"errno": "EPERM"}, None, "map m (arena) could not be made: EPERM"),
    ],
)
def test_a_map_that_can_not_be_made(keys: dict[str, Any], code: Code | None, part: str) -> None:
    map = {"name": "m", "type": "arena", "entries": 1024}
    found, reason = told(**{"step": "map", "map": map, **keys})
    assert found is (code or Code.MAP_CREATE_FAILED)
    assert part in reason


def test_a_map_without_a_size_names_the_option() -> None:
    map = {"name": "m", "type": "hash"}
    code, reason = told(step="map", map=map, errno="EINVAL", type_supported=True)
    assert code is Code.MAP_CREATE_FAILED
    assert "--map-size m=ENTRIES" in reason


@pytest.mark.parametrize(
    ("keys", "code", "part"),
    [
        ({"errno": "EINVAL", "type_supported": False}, Code.UNSUPPORTED_PROGRAM_TYPE, "sched_cls"),
        ({"errno": "EINVAL", "type_supported": True}, Code.UNSUPPORTED_ATTACH_TYPE, "tcx/ingress"),
        ({"errno": "E2BIG"}, Code.UNSUPPORTED_ATTACH_TYPE, "E2BIG"),
        ({"errno": "E2BIG", "instructions": 5000}, Code.TOO_COMPLEX, "5,000 instructions"),
        ({"errno": "ENOMEM"}, Code.NO_MEMORY, "no memory"),
        ({"errno": "EFAULT"}, Code.LOAD_FAILED, "without a log"),
        ({"errno": "ENOSYS"}, Code.UNSUPPORTED_PROGRAM_TYPE, "CONFIG_BPF_SYSCALL"),
        ({"step": "attach", "words": ["failed to attach: -EBUSY"]}, Code.ATTACH_FAILED, "EBUSY"),
        ({"step": "open", "words": ["no idea"]}, Code.UNSUPPORTED_BY_LOADER, "no idea"),
        ({"step": "btf", "errno": "EINVAL"}, Code.BAD_BTF, "EINVAL"),
        ({"step": "relocate", "words": ["x"]}, Code.RELOCATION_FAILED, "x"),
    ],
)
def test_a_step_and_an_error_have_a_code(keys: dict[str, Any], code: Code, part: str) -> None:
    found, reason = told(**keys)
    assert found is code
    assert part in reason


@given(st.dictionaries(st.sampled_from(("step", "errno", "words", "map", "missing", "log")), JSON))
def test_any_failure_that_can_be_read_has_a_reason_in_one_line(data: dict[str, Any]) -> None:
    try:
        failure = Failure.parse(data)
    except (ValueError, TypeError, KeyError, AttributeError):
        return
    for loader in ("libbpf", "cilium-ebpf", "aya", ""):
        found = reason_of(failure, PROGRAM, KernelFacts(), loader)
        assert found.code in Code
        assert found.text
        assert "\n" not in found.text
