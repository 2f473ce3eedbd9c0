import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.errors import PayloadError
from bpfmatrix.host import tools
from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.model import Executable
from tests.goproject import GoModule
from tests.verify.objectfiles import clang


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
    assert executable(busybox(), "x86_64") == Executable(busybox(), "auto")


def test_a_binary_of_another_architecture_says_which(tmp_path: Path) -> None:
    assert "built for x86_64, the guest is aarch64" in refused(busybox(), "aarch64").what
    path = tmp_path / "arm"
    data = bytearray(busybox().read_bytes())
    data[18:20] = struct.pack("<H", 183)  # e_machine: EM_AARCH64
    path.write_bytes(data)
    assert "built for aarch64, the guest is x86_64" in refused(path).what
    data[18:20] = struct.pack("<H", 0xFEED)  # not assigned
    path.write_bytes(data)
    assert "the guest is x86_64" in refused(path).what


def test_an_object_file_can_not_be_run(tmp_path: Path) -> None:
    subprocess.run(
        [clang(), "-x", "c", "-c", "-", "-o", tmp_path / "a.o"],
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
    assert executable(path, "x86_64").format == "auto"


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("#!/usr/bin/python3", "/usr/bin/python3"),
        ("#!/bin/bash -e", "/bin/bash"),
        ("#!/usr/bin/env python3", "python3"),
        ("#!/usr/bin/env -S bash -e", "bash"),
    ],
)
def test_scripts_that_the_guest_can_not_run(tmp_path: Path, line: str, missing: str) -> None:
    path = tmp_path / "script"
    path.write_text(f"{line}\n")
    error = refused(path)
    assert f"needs {missing}, which the guest does not have" in error.what


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x7fEL", b"MZ"])
def test_a_file_that_is_neither_binary_nor_script(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert "neither an ELF executable nor a script" in refused(path).what


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
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
        assert executable(path, "x86_64").format == "auto"
    except PayloadError:
        return
    assert size >= 64 + 56  # the ELF header and a program header


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
    assert executable(go_module.binary(), "x86_64").format == "go"
    assert executable(go_module.binary(stripped=True), "x86_64").format == "go"


def test_a_go_program_is_not_a_test_binary(go_module: GoModule) -> None:
    assert executable(go_module.program(), "x86_64").format == "auto"
