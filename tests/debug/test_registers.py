"""Registers and stack slots, as the verifier's log shows them."""

import pytest

from bpfmatrix.debug.in_gdb.registers import Register, Scalar, slot_text, type_name

# The beginning of enum bpf_reg_type in 5.10, and in 6.1, where nullable types have a flag.
OLD = {"NOT_INIT": 0, "SCALAR_VALUE": 1, "PTR_TO_MAP_VALUE": 4, "PTR_TO_MAP_VALUE_OR_NULL": 5}
NEW = {"NOT_INIT": 0, "SCALAR_VALUE": 1, "PTR_TO_MAP_VALUE": 4, "PTR_TO_BTF_ID": 15}
NEW |= {"PTR_TO_MAP_VALUE_OR_NULL": 260, "PTR_TO_MEM": 16}
FLAGS = {"PTR_MAYBE_NULL": 256, "MEM_RDONLY": 512, "PTR_TRUSTED": 1 << 18}


@pytest.mark.parametrize(
    ("value", "types", "flags", "name"),
    [
        (0, OLD, {}, "?"),
        (5, OLD, {}, "map_value_or_null"),
        (4, OLD, {}, "map_value"),
        (260, NEW, FLAGS, "map_value_or_null"),
        (15 | 256 | 1 << 18, NEW, FLAGS, "trusted_ptr_or_null_"),
        (16 | 512, NEW, FLAGS, "rdonly_mem"),
        (77, NEW, FLAGS, "type 0x4d"),
    ],
)
def test_the_name_of_a_type(
    value: int, types: dict[str, int], flags: dict[str, int], name: str
) -> None:
    assert type_name(value, types, flags) == name


@pytest.mark.parametrize(
    ("register", "text"),
    [
        (Register("scalar", Scalar(value=7)), "7"),
        (Register("scalar", Scalar(value=(1 << 64) - 1), precise=True), "P-1"),
        (Register("scalar"), "scalar()"),
        (
            Register("scalar", Scalar(0, 0x1F, smin=0, smax=20, umax=20, umax32=31)),
            "scalar(smin=0,smax=umax=20,umax32=31,var_off=(0x0; 0x1f))",
        ),
        (Register("fp", Scalar()), "fp0"),
        (Register("fp", Scalar(), offset=-16, frame=1), "fp[1]-16"),
        (Register("fp", Scalar(value=(1 << 64) - 8)), "fp-8"),
        (Register("ctx", Scalar()), "ctx()"),
        (
            Register("map_value_or_null", Scalar(), id=1, details=("map=counts", "ks=4,vs=8")),
            "map_value_or_null(id=1,map=counts,ks=4,vs=8)",
        ),
        (
            Register("ptr_", Scalar(), struct="task_struct", reference=3),
            "ptr_task_struct(ref_obj_id=3)",
        ),
        (Register("pkt", Scalar(), offset=14, details=("r=34",)), "pkt(r=34,off=14)"),
    ],
)
def test_a_register(register: Register, text: str) -> None:
    assert register.text() == text


def test_the_bytes_of_a_slot() -> None:
    assert slot_text([2, 2, 2, 2, 0, 0, 0, 0], None) == "mmmm????"
    assert slot_text([0] * 8, None) == ""
    assert slot_text([7, 0] * 4, None) == ""  # 7 is STACK_POISON, where nothing is read any more
    assert slot_text([1] * 8, Register("scalar", Scalar(value=1))) == "1"
    assert slot_text([99] * 8, None) == ""
