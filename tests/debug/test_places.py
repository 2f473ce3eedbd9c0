"""The places of `--break` that are no functions of the kernel."""

import re
from pathlib import Path

import pytest

from bpfmatrix.debug.places import (
    ProgramPlace,
    check_forms,
    has_source,
    in_program,
    line_of_program,
    shown_alone,
)
from bpfmatrix.errors import UsageError


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("insn:37", ProgramPlace(37)),
        ("insn:on_exec:0", ProgramPlace(0, "on_exec")),
        ("line:exec.bpf.c:76", ProgramPlace(file="exec.bpf.c", line=76)),
        ("line:bpf/exec.bpf.c:76", ProgramPlace(file="bpf/exec.bpf.c", line=76)),
    ],
)
def test_a_place_in_programs(name: str, place: ProgramPlace) -> None:
    assert in_program(name) == place
    assert str(place) == name


@pytest.mark.parametrize(
    "name", ["rejection", "do_check", "verifier.c:12", "insn:", "insn:x", "insn:-1", "line:x:y"]
)
def test_no_place_in_programs_without_doubt(name: str) -> None:
    assert in_program(name) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("insn:abc", "--break insn:abc: expected insn:NUMBER or insn:PROGRAM:NUMBER"),
        ("insn:-3", "--break insn:-3: expected insn:NUMBER"),
        ("insn:", "--break insn:: expected insn:NUMBER"),
        ("insn:on_exec:", "expected insn:NUMBER"),
        ("line:12", "--break line:12: expected line:FILE:LINE"),
        ("line:x:y", "expected line:FILE:LINE"),
        ("", "--break needs a place"),
        (" ", "--break needs a place"),
    ],
)
def test_what_can_be_no_place_is_told_with_the_right_form(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        check_forms(["do_check", name])


def test_places_have_the_right_form() -> None:
    check_forms(["do_check", "rejection", "verifier.c:12", "insn:0", "line:a.c:1", "insn_state"])


def test_a_line_that_may_be_a_programs() -> None:
    assert line_of_program("exec.bpf.c:76") == ProgramPlace(file="exec.bpf.c", line=76)
    assert line_of_program("do_check") is None
    assert line_of_program("insn:on_exec:3") is None


def test_what_shows_itself() -> None:
    assert shown_alone(["do_check", "rejection"])
    assert shown_alone(["insn:3"])
    assert not shown_alone(["kernel/bpf/verifier.c:12"])


def test_a_source_of_the_project_or_of_an_object(tmp_path: Path) -> None:
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf/exec.bpf.c").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/other.bpf.c").touch()
    built = tmp_path / "built.o"
    built.write_bytes(b"\x7fELF\0/home/somebody/far.bpf.c\0")
    assert has_source("exec.bpf.c", tmp_path, [])
    assert has_source("bpf/exec.bpf.c", tmp_path, [])
    assert not has_source("ec.bpf.c", tmp_path, [])
    assert not has_source("other.bpf.c", tmp_path, [])
    assert not has_source("far.bpf.c", tmp_path, [])
    assert has_source("far.bpf.c", tmp_path, [built, tmp_path / "missing.o"])
