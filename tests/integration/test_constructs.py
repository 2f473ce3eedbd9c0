"""Constructs that C projects ship, each in an object of its own: libbpf's verdicts, by kernel."""

import subprocess
from pathlib import Path

import pytest

from bpfmatrix.results import checked
from bpfmatrix.results.verification import Code, Verification
from tests.tool import ToolProject

from .bpfobjects import compile_object

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parent / "objects/constructs"
KERNELS = ("5.10", "6.1", "6.12", "7.3")
# The code of each program that does not load, on the kernels that are named: those that lack the
# feature, or all of them.
REFUSED: dict[tuple[str, str], dict[str, Code]] = {
    ("arena", "allocates"): {
        "5.10": Code.UNSUPPORTED_PROGRAM_TYPE,
        "6.1": Code.UNSUPPORTED_MAP_TYPE,
    },
    ("impossible_maps", "looks_up"): {
        **dict.fromkeys(KERNELS, Code.NO_MEMORY),
        "5.10": Code.MAP_CREATE_FAILED,  # it says E2BIG, and later kernels ENOMEM
    },
    ("impossible_maps", "odd"): dict.fromkeys(KERNELS, Code.MAP_CREATE_FAILED),
    ("iterators", "of_memory"): {"5.10": Code.ATTACH_TARGET_MISSING},
    ("kernel_type_kptr", "keeps"): {
        **dict.fromkeys(("5.10", "6.1"), Code.UNSUPPORTED_KFUNC),
        **dict.fromkeys(("6.12", "7.3"), Code.BAD_BTF),
    },
    ("local_kptr", "keeps"): dict.fromkeys(("5.10", "6.1"), Code.UNSUPPORTED_KFUNC),
    ("lock_without_btf", "locks"): dict.fromkeys(KERNELS, Code.MISSING_BTF),
    ("lsm_cgroup", "bind"): {"5.10": Code.UNSUPPORTED_ATTACH_TYPE},
    # Before 6.2, a lock in a global variable can't be told from another one.
    ("named_data", "locks"): dict.fromkeys(("5.10", "6.1"), Code.VERIFIER_REJECTED),
    ("sched_ext", "scheduler_exit"): dict.fromkeys(
        ("5.10", "6.1", "6.12"), Code.ATTACH_TARGET_MISSING
    ),
    ("strong_option", "reads"): dict.fromkeys(KERNELS, Code.MISSING_KCONFIG),
    ("strong_symbol", "uses"): dict.fromkeys(KERNELS, Code.MISSING_KSYM),
    ("strong_symbol", "calls"): dict.fromkeys(KERNELS, Code.MISSING_KSYM),
    # Before 5.14, the kernel's BTF has no variables that are not of a processor's own data.
    ("typed_symbols", "of_struct"): {"5.10": Code.MISSING_KSYM},
    ("typed_symbols", "of_int"): {"5.10": Code.MISSING_KSYM},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Verification]:
    project = ToolProject(tmp_path_factory.mktemp("constructs") / "project")
    project.configure(KERNELS)
    objects, parts = project.root / "objects", project.root / "parts"
    objects.mkdir()
    parts.mkdir()
    for source in FOLDER.glob("*.bpf.c"):
        compile_object(source, objects / f"{source.name.removesuffix('.bpf.c')}.o", "-mcpu=v3")
    # A pointer to a type whose name the kernel has too, for another type: it refuses the BTF.
    compile_object(
        FOLDER / "local_kptr.bpf.c",
        objects / "kernel_type_kptr.o",
        *("-mcpu=v3", "-Down_node=node"),
    )
    linked = [parts / f"{name}.o" for name in ("linked_first", "linked_second")]
    for part in linked:
        compile_object(FOLDER / f"{part.stem}.c", part)
    subprocess.run(["bpftool", "gen", "object", objects / "linked.o", *linked], check=True)
    done = project.invoke("verify", "objects", "--attach", "--save", "found.json")
    assert done.status == 1, done.output
    return checked.read_saved(project.root / "found.json")


def test_each_program_has_the_verdict_of_libbpf(found: list[Verification]) -> None:
    for one in found:
        for result in one.programs:
            key = (Path(result.object).stem, result.program)
            expected = REFUSED.get(key, {}).get(one.kernel)
            assert result.code == expected, (one.kernel, key, result.code, result.reason)
        assert len(one.programs) == 41


def test_a_map_that_can_not_be_made_is_named_with_the_kernels_answer(
    found: list[Verification],
) -> None:
    for one in found:
        reasons = {
            result.program: result.reason
            for result in one.programs
            if Path(result.object).stem == "impossible_maps"
        }
        assert "huge" in reasons["looks_up"]
        assert "odd_flags" in reasons["odd"]
        assert "EINVAL" in reasons["odd"]


def test_a_strong_definition_wins_over_a_weak_one(found: list[Verification]) -> None:
    """The object that bpftool linked calls the function that multiplies by 3."""
    for one in found:
        (first,) = [result for result in one.programs if result.program == "first"]
        assert first.code is None
