import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError, ConfigError, PayloadError
from bpfmatrix.payload import build, go
from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.go import BuiltTests, GoTestBinary
from tests.damage import DAMAGES, Notes, flip_bit_quietly
from tests.goproject import GoModule
from tests.payload.projects import configured


def with_module(project: Project, go_module: GoModule, place: str = "support") -> Project:
    module = project.root / place
    module.mkdir(parents=True, exist_ok=True)
    for name in ("go.mod", "sample_test.go"):
        shutil.copy(go_module.root / name, module)
    return configured(project, ebpf=None, go={"module": place, "tags": []})


def the_binary(project: Project) -> Path:
    [test] = go.build_tests(project, "x86_64").tests
    return test.path


@pytest.mark.parametrize("place", ["support", "."])
def test_go_tests_are_built_and_then_left_alone(
    library_project: Project, go_module: GoModule, place: str
) -> None:
    project = with_module(library_project, go_module, place)
    first = go.build_tests(project, "x86_64")
    [test] = first.tests
    binary = test.path
    assert first.changed
    assert binary == project.state / "build/amd64/example.com/sample.test"
    assert (test.package, test.folder) == ("example.com/sample", project.root / place)
    stamp = binary.stat().st_mtime_ns
    # The files that a run writes are not a change of the module, wherever it is.
    project.results.mkdir(parents=True)
    (project.results / "6.1.json").write_text("{}")
    (project.root / place / "scripts/__pycache__").mkdir(parents=True)
    (project.root / place / "scripts/__pycache__/x.pyc").touch()
    assert go.build_tests(project, "x86_64") == BuiltTests((test,), False, first.goroot)
    assert binary.stat().st_mtime_ns == stamp
    (project.root / place / "extra_test.go").write_text("package sample\n")
    assert go.build_tests(project, "x86_64").changed


def test_the_error_has_the_words_of_go(library_project: Project, go_module: GoModule) -> None:
    project = with_module(library_project, go_module)
    (project.root / "support/bad_test.go").write_text("package sample\nvar x int = nothing\n")
    with pytest.raises(BuildError, match=r"bad_test\.go:2:13: undefined: nothing"):
        go.build_tests(project, "x86_64")


def test_a_module_without_tests_is_an_error(library_project: Project, go_module: GoModule) -> None:
    project = with_module(library_project, go_module)
    (project.root / "support/sample_test.go").unlink()
    (project.root / "support/a.go").write_text("package sample\n")
    with pytest.raises(ConfigError, match="support has no tests with the build tags"):
        go.build_tests(project, "x86_64")


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_binary_is_built_again(
    library_project: Project, go_module: GoModule, harm: Callable[[Path], None]
) -> None:
    project, notes = with_module(library_project, go_module), Notes()
    binary = the_binary(project)
    good = binary.read_bytes()
    harm(binary)
    missing = not binary.exists()
    assert go.build_tests(project, "x86_64", notes).changed
    assert binary.read_bytes() == good
    words = "example.com/sample.test changed since it was built; building it again"
    assert notes.told == ([] if missing else [words])
    assert not go.build_tests(project, "x86_64", notes).changed


@pytest.mark.parametrize("harm", DAMAGES)
def test_with_a_damaged_record_it_is_built_again(
    library_project: Project, go_module: GoModule, harm: Callable[[Path], None]
) -> None:
    project = with_module(library_project, go_module)
    binary = the_binary(project)
    good = binary.read_bytes()
    flip_bit_quietly(binary)
    harm(project.state / "build/amd64/.built.json")
    assert go.build_tests(project, "x86_64").changed
    assert binary.read_bytes() == good


def test_a_binary_that_was_copied_is_left_alone(
    library_project: Project, go_module: GoModule
) -> None:
    project = with_module(library_project, go_module)
    binary = the_binary(project)
    shutil.copy2(binary, binary.with_name("copy"))
    binary.with_name("copy").replace(binary)
    for _ in range(2):
        assert not go.build_tests(project, "x86_64").changed


HELLO = """package {0}

import (
	"fmt"
	"runtime"
	"testing"
)

func TestWhere(t *testing.T) {{
	_, file, _, _ := runtime.Caller(0)
	fmt.Println("file", file)
	fmt.Println("race", race)
}}
"""


def with_packages(project: Project, *places: str, **go_settings: Any) -> Project:
    """Return a project whose module `example.com/m` has these packages with a test."""
    module = project.root / "support"
    for place in places:
        folder = module / place
        folder.mkdir(parents=True)
        (folder / "x_test.go").write_text(HELLO.format(folder.name))
        for value, tag in (("true", "race"), ("false", "!race")):
            text = f"//go:build {tag}\n\npackage {folder.name}\n\nconst race = {value}\n"
            (folder / f"{value}_test.go").write_text(text)
    (module / "go.mod").write_text("module example.com/m\n\ngo 1.20\n")
    settings = {"module": "support", "tags": [], **go_settings}
    return configured(project, ebpf=None, go=settings)


def printed(test: GoTestBinary) -> str:
    done = subprocess.run([test.path, "-test.v"], capture_output=True, text=True, check=True)
    return done.stdout


def test_packages_of_one_base_name_are_built_side_by_side(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", "b/x", "b/x/v2", "y")
    (project.root / "support/b/none").mkdir()
    (project.root / "support/b/none/a.go").write_text("package none\n")
    built = go.build_tests(project, "x86_64")
    assert [test.package for test in built.tests] == [
        f"example.com/m/{place}" for place in ("a/x", "b/x", "b/x/v2", "y")
    ]
    for test in built.tests:
        place = test.package.removeprefix("example.com/m/")
        assert test.folder == project.root / "support" / place
        assert test.path == project.state / f"build/amd64/{test.package}.test"
        # Without -trimpath, a test finds the files that lie beside its source.
        assert f"file {test.folder}/x_test.go\n" in printed(test)


def test_a_package_without_tests_may_have_the_name_of_one_with_tests(
    library_project: Project,
) -> None:
    project = with_packages(library_project, "a/x")
    (project.root / "support/b/x").mkdir(parents=True)
    (project.root / "support/b/x/a.go").write_text("package x\n")
    assert [test.package for test in go.build_tests(project, "x86_64").tests] == [
        "example.com/m/a/x"
    ]


def test_only_what_changed_is_linked_again(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", "b/x")
    before = {one.package: one.path.read_bytes() for one in go.build_tests(project, "x86_64").tests}
    stamps = {one.package: one.path.stat() for one in go.build_tests(project, "x86_64").tests}
    (project.root / "support/b/x/more_test.go").write_text(
        "package x\n\nfunc init() { print(1) }\n"
    )
    after = go.build_tests(project, "x86_64")
    assert after.changed
    for one in after.tests:
        same = one.package == "example.com/m/a/x"
        assert (one.path.stat().st_ino == stamps[one.package].st_ino) == same
        assert (one.path.read_bytes() == before[one.package]) == same


def test_a_package_that_is_gone_leaves_nothing_behind(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", "b/x")
    go.build_tests(project, "x86_64")
    shutil.rmtree(project.root / "support/a")
    [left] = go.build_tests(project, "x86_64").tests
    assert list((project.state / "build/amd64").rglob("*.test")) == [left.path]


def test_after_an_error_only_the_rest_is_built(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", "b/x")
    [first, _] = go.build_tests(project, "x86_64").tests
    inode = first.path.stat().st_ino
    bad = project.root / "support/b/x/bad_test.go"
    bad.write_text("package x\nvar y int = nothing\n")
    with pytest.raises(BuildError, match=r"bad_test\.go:2:13: undefined: nothing"):
        go.build_tests(project, "x86_64")
    # The binaries of before are not taken for those of now.
    with pytest.raises(BuildError, match="undefined: nothing"):
        go.build_tests(project, "x86_64")
    bad.unlink()
    built = go.build_tests(project, "x86_64")
    assert built.changed
    assert len(built.tests) == 2
    assert built.tests[0].path.stat().st_ino == inode


def test_an_error_of_the_list_of_packages_has_the_words_of_go(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", packages=["./nowhere"])
    with pytest.raises(BuildError, match=r"go failed in support:\n.*nowhere"):
        go.build_tests(project, "x86_64")


def test_flags_are_those_of_the_project(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", flags=["-trimpath"])
    [test] = go.build_tests(project, "x86_64").tests
    assert "file example.com/m/a/x/x_test.go\nrace false\n" in printed(test)


def test_race_needs_cgo_which_it_gets(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", flags=["-race"])
    [test] = go.build_tests(project, "x86_64").tests
    assert "race true\n" in printed(test)
    with pytest.raises(PayloadError, match=r"dynamically linked .* and the guest has no libraries"):
        executable(test.path, "x86_64")


def test_the_environment_of_the_build_is_that_of_the_project(library_project: Project) -> None:
    project = with_packages(library_project, "a/x", env={"GOFLAGS": "-trimpath"})
    [test] = go.build_tests(project, "x86_64").tests
    assert "file example.com/m/a/x/x_test.go\n" in printed(test)


def test_a_root_of_go_is_that_of_its_command(library_project: Project) -> None:
    project = with_packages(library_project, "a/x")
    told = subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True)
    goroot = told.stdout.strip()
    assert go.build_tests(project, "x86_64").goroot == goroot
    # A warm run takes it from the record.
    assert go.build_tests(project, "x86_64") == replace(
        go.build_tests(project, "x86_64"), changed=False, goroot=goroot
    )
    made, _ = build.payload(project, "x86_64")
    assert made.guest_env() == {"GOROOT": goroot}
    [only] = made.tests
    assert (only.package, only.folder) == ("example.com/m/a/x", project.root / "support/a/x")


def test_a_binary_in_the_place_of_a_folder_is_an_error(library_project: Project) -> None:
    project = with_packages(library_project, "x", "x.test/y")
    with pytest.raises(BuildError, match=r"x\.test.* can't be written: another one"):
        go.build_tests(project, "x86_64")
