import os
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.guest import busybox
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.integrity import record_of
from tests.damage import DAMAGES, Notes, flip_bit_quietly


def test_the_commands_are_those_that_busybox_lists(cache: Cache) -> None:
    program = busybox.executable(os.uname().machine, cache)
    done = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    assert {*busybox.applets(program)} == {*done.stdout.split()} - {"busybox"}


# Debian 12 has a NUL there, Debian 13 has a space.
@pytest.mark.parametrize("before", [b"\0", b" ", b"x"])
def test_what_stands_before_the_names_does_not_matter(tmp_path: Path, before: bytes) -> None:
    program = tmp_path / "busybox"
    program.write_bytes(b"code" + before + b"[\0[[\0ash\0busybox\0cat\0\0more")
    assert busybox.applets(program) == ("[", "[[", "ash", "cat")


def test_a_busybox_without_commands_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "busybox"
    program.write_bytes(b"code\0\0more")
    with pytest.raises(BpfmatrixError, match="has no commands"):
        busybox.applets(program)


@pytest.mark.integration
def test_a_damaged_one_for_another_architecture_is_fetched_again(cache: Cache) -> None:
    other = next(arch for arch in ARCHITECTURES if arch != os.uname().machine)
    notes = Notes()
    program = busybox.executable(other, cache, notes)
    good = program.read_bytes()
    assert notes.told == []
    for harm in (flip_bit_quietly, *DAMAGES[2:4]):
        for path in (program, record_of(program)):
            harm(path)
            assert busybox.executable(other, cache, notes) == program
            assert program.read_bytes() == good
            assert len(notes.told) == 1
            assert notes.told.pop().startswith(f"busybox for {other} ")
