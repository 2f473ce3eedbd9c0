import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError
from bpfmatrix.payload import ebpf
from bpfmatrix.payload.incremental import BuiltFiles
from tests.damage import DAMAGES, Notes, flip_bit_quietly
from tests.payload.projects import configured
from tests.verify.objectfiles import clang

OBJECT = """
__attribute__((section(".bpfmatrix.requires"), used)) static const char needs[] = "5.17 bpf_loop";
int x;
"""
# clang writes the *.d files, by which bpfmatrix knows what the objects depend on.
MAKEFILE = """
all: a.o
a.o: a.c Makefile
	$(CLANG) -Wall -Werror -MD -MP -c $< -o $@
	echo ran >>ran
-include a.d
clean:
	rm -f a.o a.d
"""


@pytest.fixture
def objects(library_project: Project) -> Project:
    folder = library_project.root / "ebpf"
    folder.mkdir()
    (folder / "Makefile").write_text(f"CLANG := {clang()}\n{MAKEFILE}")
    (folder / "a.c").write_text(f'#include "a.h"\n{OBJECT}')
    (folder / "a.h").write_text("")
    return configured(library_project, go=None)


def test_objects_are_built_and_then_left_alone(objects: Project) -> None:
    folder = objects.root / "ebpf"
    assert ebpf.objects(objects) == BuiltFiles((folder / "a.o",), changed=True)
    ebpf.objects(objects)  # there was no *.d file when the first one began
    before = (folder / "a.o").stat().st_mtime_ns
    assert ebpf.objects(objects) == BuiltFiles((folder / "a.o",), changed=False)
    assert (folder / "a.o").stat().st_mtime_ns == before
    assert (folder / "ran").read_text() == "ran\n"


def test_a_damaged_object_is_built_again(objects: Project) -> None:
    folder, notes = objects.root / "ebpf", Notes()
    for _ in range(2):
        ebpf.objects(objects)
    good = (folder / "a.o").read_bytes()
    flip_bit_quietly(folder / "a.o")
    assert ebpf.objects(objects, notes) == BuiltFiles((folder / "a.o",), changed=True)
    assert (folder / "a.o").read_bytes() == good
    assert notes.told == ["a.o changed since it was built; building it again"]
    assert not ebpf.objects(objects, notes).changed
    assert len(notes.told) == 1


@pytest.mark.parametrize("harm", DAMAGES)
def test_with_a_damaged_record_make_is_asked(
    objects: Project, harm: Callable[[Path], None]
) -> None:
    for _ in range(2):
        ebpf.objects(objects)
    harm(objects.state / "build/ebpf.json")
    heard: list[str] = []
    ebpf.objects(objects, lambda text, fraction=None: heard.append(text))
    assert heard == ["make -C ebpf"]
    ebpf.objects(objects, lambda text, fraction=None: heard.append(text))
    assert heard == ["make -C ebpf"]


@pytest.mark.parametrize("name", ["a.c", "a.h", "Makefile"])
def test_objects_are_built_again_after_a_change(objects: Project, name: str) -> None:
    ebpf.objects(objects)
    ebpf.objects(objects)
    path = objects.root / "ebpf" / name
    later = path.stat().st_mtime_ns + 2_000_000_000
    os.utime(path, ns=(later, later))
    assert ebpf.objects(objects).changed
    assert (objects.root / "ebpf/ran").read_text() == "ran\nran\n"


def test_an_object_that_was_removed_is_built_again(objects: Project) -> None:
    ebpf.objects(objects)
    (objects.root / "ebpf/a.o").unlink()
    assert ebpf.objects(objects).changed
    assert (objects.root / "ebpf/a.o").exists()


def test_the_error_has_the_words_of_the_compiler(objects: Project) -> None:
    (objects.root / "ebpf/a.c").write_text("int f(void) { return nothing; }\n")
    with pytest.raises(BuildError) as caught:
        ebpf.objects(objects)
    assert "a.c:1:22: error: use of undeclared identifier 'nothing'" in caught.value.what
    assert caught.value.what.startswith("make failed in ")


def test_a_makefile_that_builds_nothing_is_an_error(objects: Project) -> None:
    (objects.root / "ebpf/Makefile").write_text("all:\n")
    with pytest.raises(BuildError, match=r"left no \*\.o file in ebpf"):
        ebpf.objects(objects)


def test_objects_for_big_endian_guests_are_others(objects: Project) -> None:
    folder = objects.root / "ebpf"
    makefile = (folder / "Makefile").read_text()
    big = "ifeq ($(BPF_TARGET),bpfeb)\nall: bpfeb/a.o\nelse\nall: a.o\nendif\n"
    rule = "\nbpfeb/a.o: a.c\n\tmkdir -p bpfeb\n\t$(CLANG) -target bpfeb -MD -MP -c $< -o $@\n"
    (folder / "Makefile").write_text(makefile.replace("all: a.o\n", big) + rule)
    assert ebpf.objects(objects, big_endian=True).files == (folder / "bpfeb/a.o",)
    assert (folder / "bpfeb/a.o").read_bytes()[:6] == b"\x7fELF\x02\x02"
    assert not (folder / "a.o").exists()
    ebpf.objects(objects)
    # Neither is built again because the other was.
    for big_endian in (True, False):
        assert not ebpf.objects(objects, big_endian=big_endian).changed


def test_a_makefile_that_knows_no_big_endian_machine(objects: Project) -> None:
    with pytest.raises(BuildError) as raised:
        ebpf.objects(objects, big_endian=True)
    assert raised.value.what == "make -C ebpf BPF_TARGET=bpfeb left no *.o file in ebpf/bpfeb"


def test_a_project_without_objects(library_project: Project) -> None:
    assert ebpf.objects(configured(library_project, ebpf=None)) == BuiltFiles((), changed=False)
    assert ebpf.objects(configured(library_project)) == BuiltFiles((), changed=False)


def test_clean_lets_the_makefile_remove_them(objects: Project) -> None:
    ebpf.objects(objects)
    ebpf.clean(objects)
    assert not (objects.root / "ebpf/a.o").exists()


def test_the_requirement_of_an_object(objects: Project, tmp_path: Path) -> None:
    ebpf.objects(objects)
    assert ebpf.requirement(objects.root / "ebpf/a.o") == "5.17 bpf_loop"
    plain = tmp_path / "plain.o"
    subprocess.run([clang(), "-x", "c", "-c", "-", "-o", plain], input=b"int x;\n", check=True)
    assert ebpf.requirement(plain) == ""
    plain.write_bytes(b"no ELF")
    with pytest.raises(BuildError, match="is not an ELF object"):
        ebpf.requirement(plain)
