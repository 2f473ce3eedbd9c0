from pathlib import Path

import pytest

from bpfmatrix.errors import PayloadError, UsageError
from bpfmatrix.payload.model import Executable, Payload


def test_a_test_binary_has_the_name_of_its_package() -> None:
    assert Executable(Path("/x/programs.test"), "go-test").name == "programs"
    assert Executable(Path("/x/check.sh"), "program").name == "check.sh"


def programs(*names: str) -> tuple[Executable, ...]:
    return tuple(Executable(Path(f"/x/{name}"), "program") for name in names)


def test_programs_are_chosen_by_their_names() -> None:
    made = Payload(programs("alpha", "beta"))
    assert [argv for _, argv in made.commands(None, ["-v", "a b"])] == [
        ("/payload/alpha", "-v", "a b"),
        ("/payload/beta", "-v", "a b"),
    ]
    assert [test.name for test, _ in made.commands("^b", [])] == ["beta"]
    assert made.commands("gamma", []) == []


def test_go_tests_choose_by_themselves() -> None:
    made = Payload((Executable(Path("/x/p.test"), "go-test"), *programs("alpha")))
    [(test, argv)] = made.commands("TestX/sub", ["-test.short"])
    assert test.name == "p"
    assert argv == (
        *("/payload/p.test", "-test.v=test2json", "-test.paniconexit0"),
        *("-test.run=TestX/sub", "-test.short"),
    )


def test_a_pattern_that_is_not_a_regular_expression_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"--run \(: "):
        Payload(programs("alpha")).commands("(", [])


def test_the_guest_is_told_where_the_objects_are() -> None:
    with_objects = Payload(programs("a"), (Path("/x/a.bpf.o"),), {"A": "b"})
    assert with_objects.guest_env() == {"BPFMATRIX_OBJECTS": "/payload/ebpf", "A": "b"}
    assert Payload(programs("a")).guest_env() == {}


def test_two_files_can_not_have_the_same_path() -> None:
    tests = (Executable(Path("/x/a"), "program"), Executable(Path("/y/a"), "program"))
    with pytest.raises(PayloadError, match="/y/a and /x/a would both be 'a'"):
        Payload(tests).files()
    of_go = (Executable(Path("/x/a"), "program"), Executable(Path("/x/a.test"), "go-test"))
    with pytest.raises(PayloadError, match=r"/x/a.test and /x/a would both be 'a'"):
        Payload(of_go).files()
    script = (Executable(Path("/x/a"), "program"),)
    with pytest.raises(PayloadError, match="/y/o and /x/o would both be /payload/ebpf/o"):
        Payload(script, (Path("/x/o"), Path("/y/o"))).files()
    with pytest.raises(
        PayloadError, match=r"/x/ebpf would be /payload/ebpf in the guest, which is the folder of"
    ):
        Payload(programs("ebpf"), (Path("/z/a.bpf.o"),)).files()
    with pytest.raises(PayloadError, match=r"/y/f and /x/a would both be /payload/a"):
        Payload(script, extra={"a": Path("/y/f")}).files()
    with pytest.raises(PayloadError, match=r"/x/a would be /payload/a .* the folder of /y/f"):
        Payload(script, extra={"a/b/c": Path("/y/f")}).files()
    with pytest.raises(PayloadError, match=r"would both be /payload/.id"):
        Payload(script, extra={".id": Path("/y/f")}).files()
