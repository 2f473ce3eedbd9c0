from pathlib import Path

import pytest

from bpfmatrix.errors import PayloadError, UsageError
from bpfmatrix.payload.model import Executable, Payload


def test_a_test_binary_has_the_name_of_its_package() -> None:
    assert Executable(Path("/x/programs.test"), "go").name == "programs"
    assert Executable(Path("/x/check.sh"), "plain").name == "check.sh"


def test_the_packages_of_a_module_lie_apart() -> None:
    packages = tuple(
        Executable(Path(f"/x/{number}.test"), "go", name)
        for number, name in enumerate(("ebpf/a/x", "ebpf/b/x"))
    )
    made = Payload((*packages, *programs("x")), (Path("/x/o"),))
    assert sorted(made.files()) == ["ebpf/a/x.test", "ebpf/b/x.test", "ebpf/o", "x"]
    # The objects have a folder of the same name.
    assert [made.mode(place) for place in ("ebpf/a/x.test", "ebpf/o", "x")] == [0o755, 0o644, 0o755]
    [(test, argv)] = made.commands("b/x:TestX", [])
    assert (test.name, argv[0], argv[-1]) == (
        "ebpf/b/x",
        "/payload/ebpf/b/x.test",
        "-test.run=TestX",
    )
    [(test, argv)] = made.commands("b/x:", [])
    assert argv[-1] == "-test.paniconexit0"
    assert [test.name for test, _ in made.commands("x:", [])] == ["x"]
    assert [argv for _, argv in made.commands("x:step", [])] == [("/payload/x",)]
    with pytest.raises(UsageError, match=r"--run c:TestX: no package is called 'c'"):
        made.commands("c:TestX", [])


def test_logs_that_need_one_path_as_a_file_and_a_folder() -> None:
    tests = (
        Executable(Path("/x/a.test"), "go", "m/a"),
        Executable(Path("/x/b.test"), "go", "m/a.log/b"),
    )
    with pytest.raises(PayloadError, match=r"log of m/a would .* the log of m/a\.log/b"):
        Payload(tests).files()


def programs(*names: str) -> tuple[Executable, ...]:
    return tuple(Executable(Path(f"/x/{name}"), "plain") for name in names)


def test_programs_are_chosen_by_their_names() -> None:
    made = Payload(programs("alpha", "beta"))
    assert [argv for _, argv in made.commands(None, ["-v", "a b"])] == [
        ("/payload/alpha", "-v", "a b"),
        ("/payload/beta", "-v", "a b"),
    ]
    assert [test.name for test, _ in made.commands("^b", [])] == ["beta"]
    assert made.commands("gamma", []) == []


def test_go_tests_choose_by_themselves() -> None:
    made = Payload((Executable(Path("/x/p.test"), "go"), *programs("alpha")))
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
    tests = (Executable(Path("/x/a"), "plain"), Executable(Path("/y/a"), "plain"))
    with pytest.raises(PayloadError, match="/y/a and /x/a would both be 'a'"):
        Payload(tests).files()
    of_go = (Executable(Path("/x/a"), "plain"), Executable(Path("/x/a.test"), "go"))
    with pytest.raises(PayloadError, match=r"/x/a.test and /x/a would both be 'a'"):
        Payload(of_go).files()
    script = (Executable(Path("/x/a"), "plain"),)
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
    with pytest.raises(PayloadError, match=r"would be /payload/\.id"):
        Payload(script, extra={".id": Path("/y/f")}).files()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("console", "which is the kernel's"),
        ("console.test", "which is the kernel's"),
        ("console.log", "which is the kernel's"),
        (".test", "it has no name"),
        (".id", "would be /payload/.id in the guest, which bpfmatrix writes"),
        ("lost+found", "which is ext4's own"),
        ("a" * 255, "has a name of 255 bytes"),
        ("ä" * 127, "has a name of 254 bytes"),
        ("a\nb", r"'a\nb' has a character in its name that can't be printed"),
        ("a\x1b[2J", "can't be printed"),
        ("a\u202eb", "can't be printed"),
        ("a\udcff", "can't be printed"),
    ],
)
def test_a_test_whose_name_can_not_be_used_is_refused(name: str, what: str) -> None:
    with pytest.raises(PayloadError) as caught:
        Payload(programs(name)).files()
    with pytest.raises(PayloadError):  # by a relative path, as users give it
        Payload((Executable(Path(name), "plain"),)).files()
    assert what in caught.value.what
    assert len(caught.value.what) < 400


@pytest.mark.parametrize("name", ["a b", "it's", 'say "x"', "-x", "a" * 251, "$(id)", "ä", "%s"])
def test_any_other_name_can_be_used(name: str) -> None:
    assert list(Payload(programs(name)).files()) == [name]


def test_a_test_can_not_have_the_name_of_another_ones_log() -> None:
    with pytest.raises(PayloadError, match=r"/x/a\.log has the name of the log of /x/a"):
        Payload(programs("a", "a.log")).files()


@pytest.mark.parametrize("name", ["a\n.bpf.o", "\udcff.o", "a" * 256])
def test_an_object_whose_name_can_not_be_used_is_refused(name: str) -> None:
    with pytest.raises(PayloadError, match=r"Rename it|may have 255 bytes"):
        Payload(programs("a"), (Path("/x") / name,)).files()


@pytest.mark.parametrize("place", ["a" * 256, "a/" * 1200 + "b", "x/\udcff", "lost+found/x"])
def test_an_extra_file_whose_place_can_not_be_used_is_refused(place: str) -> None:
    with pytest.raises(PayloadError):
        Payload(programs("a"), extra={place: Path("/y/f")}).files()
