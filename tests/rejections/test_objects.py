"""The object of a test: inside of its executable, or beside it; and the lines of C in its BTF."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config.project import Project
from bpfmatrix.payload.model import Executable, Payload
from bpfmatrix.rejections import embedded
from bpfmatrix.rejections.object_files import ObjectFiles
from bpfmatrix.verify import line_info
from tests.verify.objectfiles import REJECTED, compiled, overwrite_section


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object with a program that each verifier rejects, and one that loads."""
    return compiled(REJECTED, tmp_path_factory.mktemp("objects") / "rejected.bpf.o")


def test_objects_are_found_inside_of_an_executable(tmp_path: Path, rejected: Path) -> None:
    data = rejected.read_bytes()
    path = tmp_path / "x.test"
    path.write_bytes(b"\x7fELF\x02\x01\x01 no object" + data + b"between" + data + data[:-9])
    assert list(embedded.find(path)) == [data]
    path.write_bytes(data[:-1])
    assert list(embedded.find(path)) == []
    path.write_bytes(b"")
    assert list(embedded.find(path)) == []
    assert list(embedded.find(tmp_path / "missing")) == []


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_file_can_be_searched(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, header: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "wild.bin"
    path.write_bytes(before + b"\x7fELF\x02\x01\x01" + header)
    assert all(isinstance(one, bytes) for one in embedded.find(path))


def test_each_instruction_has_its_line_of_c(rejected: Path) -> None:
    lines = line_info.read(rejected, "unchecked")
    source = REJECTED.splitlines()
    assert [one.instruction for one in lines] == sorted({one.instruction for one in lines})
    assert lines[0].instruction == 0
    for one in lines:
        assert one.file.endswith("rejected.bpf.c")
        assert one.text.strip() == source[one.line - 1].strip()
    assert any(one.text.strip() == "*count += 1;" for one in lines)
    # Those of the program, and none of the one behind it in the same section.
    others = line_info.read(rejected, "fine")
    assert {one.line for one in others}.isdisjoint(one.line for one in lines)
    assert others[0].instruction == 0


def test_objects_without_lines_have_none(tmp_path: Path, rejected: Path) -> None:
    assert line_info.read(rejected, "no_such_program") == []
    assert line_info.read(tmp_path / "missing.o", "unchecked") == []
    bare = compiled(REJECTED, tmp_path / "bare.o", debug=False)
    assert line_info.read(bare, "unchecked") == []
    damaged = tmp_path / "damaged.o"
    for section in (".BTF", ".BTF.ext", ".symtab"):
        damaged.write_bytes(rejected.read_bytes())
        overwrite_section(damaged, section, b"\xff")
        assert line_info.read(damaged, "unchecked") == []


class TestObjectFiles:
    """What is found for a test of a project."""

    @pytest.fixture
    def test(self, library_project: Project, rejected: Path) -> Executable:
        path = library_project.root / "agent.test"
        path.write_bytes(b"some code" + rejected.read_bytes())
        return Executable(path, "go")

    def files(self, project: Project, test: Executable, *objects: Path) -> ObjectFiles:
        payload = Payload((test,), objects=objects)
        return ObjectFiles(project, payload, project.state / "rejections/objects")

    def test_the_object_in_the_executable(self, library_project: Project, test: Executable) -> None:
        (found,) = self.files(library_project, test).having("agent", "unchecked")
        assert found.path.is_relative_to(library_project.state)
        assert found.has("fine")
        assert self.files(library_project, test).having("agent", "other") == []
        # All that it may load, if the name is not known.
        (same,) = self.files(library_project, test).having("agent", "")
        assert same.path == found.path

    def test_a_file_of_the_project_that_is_the_same(
        self, library_project: Project, test: Executable, rejected: Path
    ) -> None:
        path = library_project.root / "bpf/agent_bpfel.o"
        path.parent.mkdir()
        path.write_bytes(rejected.read_bytes())
        (found,) = self.files(library_project, test).having("agent", "unchecked")
        assert found.path == path

    def test_an_object_of_the_payload(self, library_project: Project, rejected: Path) -> None:
        script = library_project.root / "check.sh"
        script.write_text("#!/bin/sh\n")
        files = self.files(library_project, Executable(script, "plain"), rejected)
        (found,) = files.having("check.sh", "unchecked")
        assert found.path == rejected

    def test_a_pipe_that_is_called_an_object_is_passed_over(
        self, library_project: Project, test: Executable
    ) -> None:
        os.mkfifo(library_project.root / "pipe.bpf.o")
        os.mkfifo(library_project.root / "pipe.c")
        files = self.files(library_project, test)
        assert files.having("agent", "other") == []
        assert files.source("pipe.c.x") == "pipe.c.x"

    def test_source_files_are_named_as_the_project_has_them(
        self, library_project: Project, test: Executable
    ) -> None:
        for name in ("bpf/connect.bpf.c", "a/same.c", "b/same.c"):
            path = library_project.root / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        files = self.files(library_project, test)
        assert files.source("./connect.bpf.c") == "bpf/connect.bpf.c"
        assert files.source("bpf/connect.bpf.c") == "bpf/connect.bpf.c"
        assert files.source("same.c") == "same.c"  # it may be either
        assert files.source("other.c") == "other.c"
