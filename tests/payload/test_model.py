import os
import stat
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.errors import PayloadError, UsageError
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload import model
from bpfmatrix.payload.model import Executable, Payload, executable, image
from tests.goproject import GoModule


def refused(path: Path, arch: str = "x86_64") -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        executable(path, arch)
    assert caught.value.what.startswith(str(path))
    return caught.value


def busybox() -> Path:
    return tools.require("busybox", "busybox-static")


def test_a_dynamic_binary_names_its_loader() -> None:
    error = refused(Path("/bin/ls"))
    assert "dynamically linked (needs /lib64/ld-linux-x86-64.so.2)" in error.what
    assert "CGO_ENABLED=0" in error.advice


def test_a_static_binary_is_a_program() -> None:
    assert executable(busybox(), "x86_64") == Executable(busybox(), "program")


def test_a_binary_of_another_architecture_says_which(tmp_path: Path) -> None:
    assert "built for x86_64, the guest is aarch64" in refused(busybox(), "aarch64").what
    path = tmp_path / "arm"
    data = bytearray(busybox().read_bytes())
    data[18:20] = struct.pack("<H", 183)  # e_machine: EM_AARCH64
    path.write_bytes(data)
    assert "built for aarch64, the guest is x86_64" in refused(path).what
    data[18:20] = struct.pack("<H", 0xFEED)  # one that nobody has
    path.write_bytes(data)
    assert "the guest is x86_64" in refused(path).what


def test_an_object_file_can_not_be_run(tmp_path: Path) -> None:
    subprocess.run(
        ["clang-19", "-x", "c", "-c", "-", "-o", tmp_path / "a.o"],
        input=b"int a;",
        check=True,
    )
    assert "is an object file" in refused(tmp_path / "a.o").what


@pytest.mark.parametrize(
    "line", ["#!/bin/sh", "#! /bin/sh -e", "#!/usr/bin/env sh", "#!/bin/busybox sh", "#!/bin/ash"]
)
def test_scripts_that_the_guest_can_run(tmp_path: Path, line: str) -> None:
    path = tmp_path / "script"
    path.write_text(f"{line}\ntrue\n")
    assert executable(path, "x86_64").kind == "program"


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("#!/usr/bin/python3", "/usr/bin/python3"),
        ("#!/bin/bash -e", "/bin/bash"),
        ("#!/usr/bin/env python3", "python3"),
        ("#!/usr/bin/env -S bash -e", "bash"),
    ],
)
def test_scripts_that_it_can_not(tmp_path: Path, line: str, missing: str) -> None:
    path = tmp_path / "script"
    path.write_text(f"{line}\n")
    error = refused(path)
    assert f"needs {missing}, which the guest does not have" in error.what


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x7fEL", b"MZ"])
def test_what_is_neither_binary_nor_script(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert "neither an ELF executable nor a script" in refused(path).what


def test_what_can_not_be_read(tmp_path: Path) -> None:
    assert "can't be read: No such file" in refused(tmp_path / "nothing").what
    assert "can't be read: Is a directory" in refused(tmp_path).what


BUSYBOX_HEAD = busybox().read_bytes()[: 1 << 16]


@given(st.integers(0, len(BUSYBOX_HEAD)))
def test_a_truncated_binary_is_refused_or_looks_whole(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "truncated"
    path.write_bytes(BUSYBOX_HEAD[:size])
    try:
        assert executable(path, "x86_64").kind == "program"
    except PayloadError:
        return
    assert size >= 64 + 56  # the headers, of which a loader takes the rest


@given(
    st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(4, 4096),
)
def test_a_damaged_binary_is_judged_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], size: int
) -> None:
    data = bytearray(BUSYBOX_HEAD[:size])
    for place, value in changes:
        if 4 <= place < size:
            data[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    try:
        assert executable(path, "x86_64").path == path
    except PayloadError as error:
        assert str(path) in error.what  # noqa: PT017


def test_a_go_test_binary_is_known(go_module: GoModule) -> None:
    assert executable(go_module.binary(), "x86_64").kind == "go-test"
    assert executable(go_module.binary(stripped=True), "x86_64").kind == "go-test"


def test_a_go_program_is_no_test_binary(go_module: GoModule) -> None:
    assert executable(go_module.program(), "x86_64").kind == "program"


def test_the_name_of_a_test_binary_is_its_packages() -> None:
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


def test_a_pattern_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"--run \(: "):
        Payload(programs("alpha")).commands("(", [])


def test_the_guest_is_told_where_the_objects_are() -> None:
    with_objects = Payload(programs("a"), (Path("/x/a.bpf.o"),), {"A": "b"})
    assert with_objects.guest_env() == {"BPFMATRIX_OBJECTS": "/payload/ebpf", "A": "b"}
    assert Payload(programs("a")).guest_env() == {}


def test_two_files_can_not_have_one_place() -> None:
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


def made_of(folder: Path, **contents: bytes) -> Payload:
    """Return a payload of executables with these contents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return Payload(tuple(Executable(folder / name, "program") for name in contents))


def test_an_image_is_made_once_for_each_content(tmp_path: Path, cache: Cache) -> None:
    first = image(made_of(tmp_path / "a", x=b"1", y=b"2"), cache)
    again = image(made_of(tmp_path / "b", y=b"2", x=b"1"), cache)
    other = image(made_of(tmp_path / "c", x=b"1", y=b"3"), cache)
    renamed = image(made_of(tmp_path / "d", x=b"1", z=b"2"), cache)
    assert again == first
    assert len({first.image, other.image, renamed.image}) == 3
    assert len({first.id, other.id, renamed.id}) == 3
    # Of one size, so that a machine that was saved with one can be given another.
    assert len({disk.image.stat().st_size for disk in (first, other, renamed)}) == 1
    assert first.image.stat().st_blocks * 512 < 8 << 20
    assert list((cache.root / "tmp").iterdir()) == []


def debugfs(disk: Path, request: str) -> str:
    """Let e2fsprogs' debugger read an image."""
    program = tools.require("debugfs", "e2fsprogs")
    done = subprocess.run(
        [program, "-R", request, disk], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_an_image_holds_the_files(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "a.bpf.o").write_bytes(b"object")
    files = made_of(tmp_path / "files", script=b"#!/bin/sh\n")
    disk = image(Payload(files.tests, (tmp_path / "a.bpf.o",)), cache)
    assert debugfs(disk.image, "cat /script") == "#!/bin/sh\n"
    assert debugfs(disk.image, "cat /ebpf/a.bpf.o") == "object"
    assert debugfs(disk.image, "cat /.id") == f"{disk.id}\n"
    assert "Mode:  0755" in debugfs(disk.image, "stat /script")
    assert "Mode:  0644" in debugfs(disk.image, "stat /ebpf/a.bpf.o")


def test_further_files_keep_whether_they_can_be_executed(tmp_path: Path, cache: Cache) -> None:
    for name, mode in (("program", 0o700), ("text", 0o600)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
    tests = made_of(tmp_path / "files", script=b"#!/bin/sh\n").tests
    extra = {"tree/bin/program": tmp_path / "program", "tree/text": tmp_path / "text"}
    disk = image(Payload(tests, extra=extra), cache)
    assert debugfs(disk.image, "cat /tree/bin/program") == "program"
    assert "Mode:  0755" in debugfs(disk.image, "stat /tree/bin/program")
    assert "Mode:  0644" in debugfs(disk.image, "stat /tree/text")
    (tmp_path / "text").chmod(0o700)
    assert image(Payload(tests, extra=extra), cache).id != disk.id


def test_an_unused_image_goes_and_a_used_one_stays(tmp_path: Path, cache: Cache) -> None:
    old = image(made_of(tmp_path / "a", x=b"1"), cache).image
    used = image(made_of(tmp_path / "b", x=b"2"), cache).image
    long_ago = time.time() - 30 * 24 * 3600
    for path in (old, used):
        os.utime(path, (long_ago, long_ago))
    image(made_of(tmp_path / "b", x=b"2"), cache)
    image(made_of(tmp_path / "c", x=b"3"), cache)
    assert not old.exists()
    assert used.exists()


def test_a_large_payload_has_a_larger_image(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    assert model._size_for([large]) == 2 << 30


def test_a_link_is_the_file_that_it_leads_to(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "target").write_bytes(b"#!/bin/sh\necho hi\n")
    (tmp_path / "link").symlink_to("target")
    assert stat.S_ISLNK((tmp_path / "link").lstat().st_mode)
    disk = image(Payload((executable(tmp_path / "link", "x86_64"),)), cache)
    assert debugfs(disk.image, "cat /link") == "#!/bin/sh\necho hi\n"
