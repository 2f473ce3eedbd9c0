import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError, ConfigError
from bpfmatrix.payload import go
from bpfmatrix.payload.go import BuiltTests
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
