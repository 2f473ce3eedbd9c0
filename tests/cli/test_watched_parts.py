"""One run of `watch`: which parts it has, and what is written if it can't go on."""

import asyncio
from typing import Any

import pytest

from bpfmatrix.cli.run import WatchedParts
from bpfmatrix.cli.run_choice import RunChoice
from bpfmatrix.config.project import Project
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.results import files
from bpfmatrix.session import watch
from bpfmatrix.session.pipeline import Part
from bpfmatrix.suite.options import RunOptions
from tests.verify.objectfiles import REJECTED, compiled


@pytest.fixture
def project(library_project: Project) -> Project:
    compiled(REJECTED, library_project.root / "a.bpf.o")
    return library_project


def watched(project: Project, *, is_asked: bool) -> WatchedParts:
    verify = project.config.verify.model_validate({"objects": [{"path": "a.bpf.o"}]})
    config = project.config.model_copy(update={"verify": verify})
    one = Project(project.root, config, project.cache)
    choice = RunChoice(("tests", "verify"), is_asked=is_asked)
    return WatchedParts(one, next(iter(config.kernels)), choice, RunOptions())


def test_tests_that_do_not_exist_are_left_out_unless_they_are_asked_for(project: Project) -> None:
    one = watched(project, is_asked=False)
    _, verify = one.parts(quiet=True)
    assert one.without_tests(NoTestsError()) == [verify]
    asked = watched(project, is_asked=True)
    asked.parts(quiet=True)
    with pytest.raises(NoTestsError):
        asked.without_tests(NoTestsError())


def test_a_part_that_has_run_keeps_its_result(project: Project) -> None:
    one = watched(project, is_asked=True)
    tests, _ = one.parts(quiet=True)
    one.done(tests)
    one.failed("the compiler failed")
    kernel = next(iter(project.config.kernels))
    assert not (project.results / f"{kernel}.json").exists()
    written = files.read_verification(files.verification_path(project, kernel))
    assert written.reason == "the compiler failed"


def test_a_mistake_of_the_project_leaves_the_last_result(project: Project) -> None:
    class Mistaken(WatchedParts):
        def parts(self, *, quiet: bool) -> list[Part[Any]]:
            raise NoTestsError

    kernel = next(iter(project.config.kernels))
    one = Mistaken(project, kernel, RunChoice(("tests",), is_asked=True), RunOptions())
    assert isinstance(asyncio.run(watch._run(project, kernel, one, None)), NoTestsError)
    assert not (project.results / f"{kernel}.json").exists()
