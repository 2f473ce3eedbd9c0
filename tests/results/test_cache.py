"""The cache of results: which runs are kept, and what a recalled run does to the last result."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bpfmatrix import __version__
from bpfmatrix.config.project import Project
from bpfmatrix.results import cache, files
from bpfmatrix.results.cache import RUNS, VERIFICATIONS, recall, remember
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult, Verification
from tests.damage import DAMAGES

KEY = "0123456789abcdef"
RUN = KernelRun(
    "6.1",
    Outcome.PASSED,
    release="6.1.0-56-cloud-amd64",
    started_at="2026-01-01T00:00:00+00:00",
    tests=(TestResult("a", "a", Outcome.PASSED, 0.1),),
    tool_version=__version__,
)


def test_a_run_that_passed_is_recalled_as_cached(library_project: Project) -> None:
    assert recall(library_project, RUNS, KEY) is None
    remember(library_project, RUNS, KEY, RUN)
    assert recall(library_project, RUNS, KEY) == replace(RUN, cached=True)
    assert recall(library_project, RUNS, "another") is None


def test_a_recalled_run_becomes_the_last_result(library_project: Project) -> None:
    path = library_project.results / "6.1.json"
    log = library_project.results / "6.1/a.log"
    log.parent.mkdir(parents=True)
    log.write_text("of the run that passed")
    run = replace(RUN, console="6.1/console.log", logs=("6.1/a.log",))
    remember(library_project, RUNS, KEY, run)
    files.write(run, path)
    for _ in range(2):
        assert recall(library_project, RUNS, KEY) == replace(run, cached=True)
        assert files.read_run(path) == replace(run, cached=True)
        assert log.exists()

    # The logs of another run on this kernel are not those of the recalled run.
    files.write(replace(run, outcome=Outcome.FAILED, started_at="2026-01-02"), path)
    for _ in range(2):
        assert recall(library_project, RUNS, KEY) == replace(RUN, cached=True)
        assert files.read_run(path) == replace(RUN, cached=True)
        assert not log.exists()


def test_a_recalled_run_has_the_logs_that_were_set_aside(library_project: Project) -> None:
    path = library_project.results / "6.1.json"
    log = library_project.results / "6.1/a.log"
    log.parent.mkdir(parents=True)
    log.write_text("of the run that passed")
    run = replace(RUN, console="6.1/console.log", logs=("6.1/a.log",))
    remember(library_project, RUNS, KEY, run)
    files.write(run, path)
    for _ in range(2):
        files.set_aside(path)
        assert not path.exists()
        assert not log.exists()
        assert recall(library_project, RUNS, KEY) == replace(run, cached=True)
        assert files.read_run(path) == replace(run, cached=True)
        assert log.read_text() == "of the run that passed"

    files.write(replace(run, outcome=Outcome.FAILED, started_at="2026-01-02"), path)
    files.set_aside(path)
    assert recall(library_project, RUNS, KEY) == replace(RUN, cached=True)
    assert not log.exists()


def test_what_was_set_aside_once_is_not_taken_for_a_later_result(library_project: Project) -> None:
    path = library_project.results / "6.1.json"
    files.write(RUN, path)
    files.set_aside(path)  # and the run was killed
    assert files.read_earlier(path) == RUN
    files.set_aside(path)
    with pytest.raises(OSError, match="No such file"):
        files.read_earlier(path)


def test_a_run_that_can_not_be_kept_is_no_failure(library_project: Project) -> None:
    library_project.state.mkdir(exist_ok=True)
    (library_project.state / "passed").touch()
    remember(library_project, RUNS, KEY, RUN)
    assert recall(library_project, RUNS, KEY) is None


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.PASSED])
def test_a_run_that_did_not_pass_is_never_kept(library_project: Project, outcome: Outcome) -> None:
    remember(library_project, RUNS, KEY, replace(RUN, outcome=outcome))
    assert recall(library_project, RUNS, KEY) is None


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_file_is_not_recalled(
    library_project: Project, harm: Callable[[Path], None]
) -> None:
    remember(library_project, RUNS, KEY, RUN)
    [kept] = (library_project.state / "passed").iterdir()
    harm(kept)
    assert recall(library_project, RUNS, KEY) is None
    remember(library_project, RUNS, KEY, RUN)
    assert recall(library_project, RUNS, KEY) == replace(RUN, cached=True)


def test_a_test_that_was_renamed_in_the_file_is_not_recalled(library_project: Project) -> None:
    remember(library_project, RUNS, KEY, RUN)
    kept = library_project.state / "passed" / f"{KEY}.json"
    kept.write_text(kept.read_text().replace('"a"', '"b"'))
    assert files.parse_run(json.loads(kept.read_text())["run"], "").tests[0].name == "b"
    assert recall(library_project, RUNS, KEY) is None


def test_only_the_newest_runs_are_kept(
    library_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_KEPT_FILES", 3)
    keys = [str(number) for number in range(5)]
    for age, key in enumerate(keys):
        remember(library_project, RUNS, key, RUN)
        os.utime(library_project.state / "passed" / f"{key}.json", (time.time() - 100 + age,) * 2)
    known = [recall(library_project, RUNS, key) is not None for key in keys]
    assert known == [False, False, True, True, True]


def test_a_verification_is_recalled_beside_a_run(library_project: Project) -> None:
    program = ProgramResult("a.o", "p", Outcome.PASSED, log=".bpfmatrix/verify/6.1/a.o/p.log")
    one = Verification("6.1", Outcome.PASSED, programs=(program,), console="console.log")
    remember(library_project, VERIFICATIONS, KEY, one)
    remember(library_project, RUNS, "another", RUN)
    # Another verification was the last one, and its logs are there.
    path = files.verification_path(library_project, "6.1")
    files.write(replace(one, seconds=2.0), path)
    log = path.with_suffix("") / "x.log"
    log.parent.mkdir()
    log.touch()
    found = recall(library_project, VERIFICATIONS, KEY)
    assert found == replace(one, cached=True, console="", programs=(replace(program, log=""),))
    assert files.read_verification(path) == found
    assert not log.exists()
    assert recall(library_project, RUNS, "another") == replace(RUN, cached=True)
    # It is a result of another kind.
    assert recall(library_project, RUNS, KEY) is None


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERROR, Outcome.INTERRUPTED])
def test_a_verification_that_failed_is_not_kept(library_project: Project, outcome: Outcome) -> None:
    remember(library_project, VERIFICATIONS, KEY, Verification("6.1", outcome))
    assert recall(library_project, VERIFICATIONS, KEY) is None
