import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError, ConfigError
from bpfmatrix.payload import build
from tests.goproject import GoModule
from tests.verify.objectfiles import clang

OBJECT = """
__attribute__((section(".bpfmatrix.requires"), used)) static const char needs[] = "5.17 bpf_loop";
int x;
"""
# Real objects of a real compiler, with the *.d files by which the tool knows what they need.
MAKEFILE = """
all: a.o
a.o: a.c Makefile
	$(CLANG) -Wall -Werror -MD -MP -c $< -o $@
	echo ran >>ran
-include a.d
clean:
	rm -f a.o a.d
"""


def configured(project: Project, **payload: Any) -> Project:
    kernels = {"6.1": {"source": {"oci": "example/6.1"}}}
    config = Config.model_validate({"kernels": kernels, "payload": payload})
    return Project(project.root, config, project.cache)


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
    assert build.objects(objects) == build.Built((folder / "a.o",), changed=True)
    build.objects(objects)  # the record of the first time did not know the *.d files
    before = (folder / "a.o").stat().st_mtime_ns
    assert build.objects(objects) == build.Built((folder / "a.o",), changed=False)
    assert (folder / "a.o").stat().st_mtime_ns == before
    assert (folder / "ran").read_text() == "ran\n"


@pytest.mark.parametrize("name", ["a.c", "a.h", "Makefile"])
def test_objects_are_built_again_after_a_change(objects: Project, name: str) -> None:
    build.objects(objects)
    build.objects(objects)
    path = objects.root / "ebpf" / name
    later = path.stat().st_mtime_ns + 2_000_000_000
    os.utime(path, ns=(later, later))
    assert build.objects(objects).changed
    assert (objects.root / "ebpf/ran").read_text() == "ran\nran\n"


def test_an_object_that_was_removed_is_built_again(objects: Project) -> None:
    build.objects(objects)
    (objects.root / "ebpf/a.o").unlink()
    assert build.objects(objects).changed
    assert (objects.root / "ebpf/a.o").exists()


def test_what_the_compiler_said_is_quoted(objects: Project) -> None:
    (objects.root / "ebpf/a.c").write_text("int f(void) { return nothing; }\n")
    with pytest.raises(BuildError) as caught:
        build.objects(objects)
    assert "a.c:1:22: error: use of undeclared identifier 'nothing'" in caught.value.what
    assert caught.value.what.startswith("make failed in ")


def test_a_makefile_that_builds_nothing_is_said(objects: Project) -> None:
    (objects.root / "ebpf/Makefile").write_text("all:\n")
    with pytest.raises(BuildError, match=r"left no \*\.o file in ebpf"):
        build.objects(objects)


def test_a_project_without_objects(library_project: Project) -> None:
    assert build.objects(configured(library_project, ebpf=None)) == build.Built((), changed=False)
    assert build.objects(configured(library_project)) == build.Built((), changed=False)


def test_clean_lets_the_makefile_remove_them(objects: Project) -> None:
    build.objects(objects)
    build.clean(objects)
    assert not (objects.root / "ebpf/a.o").exists()


def test_what_an_object_needs(objects: Project, tmp_path: Path) -> None:
    build.objects(objects)
    assert build.requirement(objects.root / "ebpf/a.o") == "5.17 bpf_loop"
    plain = tmp_path / "plain.o"
    subprocess.run([clang(), "-x", "c", "-c", "-", "-o", plain], input=b"int x;\n", check=True)
    assert build.requirement(plain) == ""
    plain.write_bytes(b"no ELF")
    with pytest.raises(BuildError, match="is no ELF object"):
        build.requirement(plain)


def go_tests(project: Project, go_module: GoModule, place: str = "support") -> Project:
    module = project.root / place
    module.mkdir(parents=True, exist_ok=True)
    for name in ("go.mod", "sample_test.go"):
        shutil.copy(go_module.root / name, module)
    return configured(project, ebpf=None, go={"module": place, "tags": []})


@pytest.mark.parametrize("place", ["support", "."])
def test_go_tests_are_built_and_then_left_alone(
    library_project: Project, go_module: GoModule, place: str
) -> None:
    project = go_tests(library_project, go_module, place)
    first = build.go_tests(project, "x86_64")
    [binary] = first.files
    assert (first.changed, binary.name) == (True, "sample.test")
    stamp = binary.stat().st_mtime_ns
    # What a run leaves behind is no change, wherever the module is.
    project.results.mkdir(parents=True)
    (project.results / "6.1.json").write_text("{}")
    (project.root / place / "scripts/__pycache__").mkdir(parents=True)
    (project.root / place / "scripts/__pycache__/x.pyc").touch()
    assert build.go_tests(project, "x86_64") == build.Built((binary,), changed=False)
    assert binary.stat().st_mtime_ns == stamp
    (project.root / place / "extra_test.go").write_text("package sample\n")
    assert build.go_tests(project, "x86_64").changed


def test_go_tests_that_do_not_compile_are_quoted(
    library_project: Project, go_module: GoModule
) -> None:
    project = go_tests(library_project, go_module)
    (project.root / "support/bad_test.go").write_text("package sample\nvar x int = nothing\n")
    with pytest.raises(BuildError, match=r"bad_test\.go:2:13: undefined: nothing"):
        build.go_tests(project, "x86_64")


def test_a_module_without_tests_is_said(library_project: Project, go_module: GoModule) -> None:
    project = go_tests(library_project, go_module)
    (project.root / "support/sample_test.go").unlink()
    (project.root / "support/a.go").write_text("package sample\n")
    with pytest.raises(ConfigError, match="support has no tests with the build tags"):
        build.go_tests(project, "x86_64")


def test_binaries_take_the_place_of_what_is_declared(
    library_project: Project, tmp_path: Path
) -> None:
    for name in ("declared", "given"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    project = configured(library_project, ebpf=None, go=None, binaries=[str(tmp_path / "declared")])
    declared, _ = build.payload(project, "x86_64")
    given, _ = build.payload(project, "x86_64", [tmp_path / "given"])
    assert [test.name for test in declared.tests] == ["declared"]
    assert [test.name for test in given.tests] == ["given"]
    with pytest.raises(ConfigError, match="there is nothing to run"):
        build.payload(configured(library_project, ebpf=None, go=None), "x86_64")
