"""What `bisect` prints: its answer in one line, and what was left out. No kernel is booted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import ObjectsTrial, Trial
from bpfmatrix.cli import bisect as module
from bpfmatrix.cli.bisect import BisectOptions, bisect
from bpfmatrix.cli.bisect_oldest import oldest
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels import releases
from bpfmatrix.kernels.releases import Releases, place_of
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramKey, ProgramResult

IDS = ("5.10.7", "6.1.3", "6.1.9", "6.12.4")
QUESTION = BisectOptions("one of a.o", "one")


@pytest.fixture
def project(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with four kernels, and two that can't be had."""
    entry = {"source": {"oci": "example.org/kernel:1"}}
    config = Config.model_validate({"kernels": dict.fromkeys((*IDS, "5.4.1"), entry)})
    found = Releases(
        config,
        {id: place_of(id) for id in IDS},
        frozenset(),
        (),
        ("example.org can't be reached",),
        frozenset({"5.4.1"}),
    )
    monkeypatch.setattr(releases, "offered", lambda *_, **__: found)
    return Project(tmp_path, config, cache)


Tried = Callable[[str], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Tried:
    """Lets the four kernels answer by letters: good, bad, or `?`."""

    def let(letters: str) -> None:
        told = {"g": Answer.GOOD, "b": Answer.BAD, "?": Answer.UNKNOWN}
        by_id = dict(zip(IDS, letters, strict=True))

        def try_kernel(id: str) -> Trial:
            answer = told[by_id[id]]
            version = "" if answer is Answer.UNKNOWN else id
            return Trial(answer, "" if answer is Answer.GOOD else f"{id}: why", version)

        monkeypatch.setattr(module, "trial_of", lambda *_: try_kernel)

    return let


@pytest.mark.parametrize(
    ("letters", "line"),
    [
        ("bbgg", "since 6.1.9 (not in 6.1.3)"),
        ("bggg", "since 6.1.3 (not in 5.10.7)"),
        ("gggb", "until 6.1.9 (not in 6.12.4)"),
        ("?bgg", "since 6.1.9 (not in 6.1.3)"),
        ("gggg", "loads on all of 2 kernels: 5.10.7, 6.12.4"),
        ("bbbb", "loads on none of 2 kernels: 5.10.7, 6.12.4"),
        ("???g", "loads on 6.12.4, the only kernel that gave an answer"),
    ],
)
def test_the_answer_is_one_line(
    project: Project,
    answers: Tried,
    capsys: pytest.CaptureFixture[str],
    letters: str,
    line: str,
) -> None:
    answers(letters)
    status = bisect(project, QUESTION, None, None)
    said = capsys.readouterr().out
    assert f"\n\n{line}\n" in said
    assert status == (1 if letters == "bbbb" else 0)
    assert "left out: example.org can't be reached\n" in said
    assert "left out, as they would have to be built (--build): 5.4.1\n" in said
    # The id is not said twice.
    assert ("5.10.7 gave no answer: why\n" in said) is letters.startswith("?")
    bisect(project, QUESTION, None, None, as_json=True)
    assert json.loads(capsys.readouterr().out)["answer"] == line


def test_one_end_can_be_named(
    project: Project, answers: Tried, capsys: pytest.CaptureFixture[str]
) -> None:
    # The change of the middle is found only with its help.
    answers("bgbb")
    assert bisect(project, QUESTION, "6.1.3", None) == 0
    assert "\nuntil 6.1.3 (not in 6.1.9)\n" in capsys.readouterr().out
    answers("gggg")
    assert bisect(project, QUESTION, "6.12.4", None) == 0
    assert "loads on all of 2 kernels: 5.10.7, 6.12.4 (6.12.4 was not tried, but named)" in (
        capsys.readouterr().out
    )


def test_without_any_answer_it_is_an_error(project: Project, answers: Tried) -> None:
    answers("????")
    with pytest.raises(BpfmatrixError, match=r"none of the 4 kernels gives an answer; 6\.12\.4: "):
        bisect(project, QUESTION, None, None)


def test_ends_that_prove_wrong_are_errors(project: Project, answers: Tried) -> None:
    answers("gggg")
    with pytest.raises(BpfmatrixError, match=r"5\.10\.7 was given as bad, but it is good"):
        bisect(project, QUESTION, "6.12.4", "5.10.7")


def test_the_oldest_kernel_of_each_object_and_why_not_before(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    since = {
        ProgramKey("a.o", "old"): "5.10.7",
        ProgramKey("a.o", "new"): "6.1.9",
        ProgramKey("b.o", "never"): "9.9.9",
        ProgramKey("c.o", "maybe"): "6.12.4",
        ProgramKey("c.o", "old"): "5.10.7",
        ProgramKey("d.o", "perhaps"): "6.1.3",
    }
    optional = {ProgramKey("c.o", "maybe"), ProgramKey("d.o", "perhaps")}

    def try_kernel(id: str) -> ObjectsTrial:
        if id == "5.10.7" and not boots:
            return ObjectsTrial(Trial(Answer.UNKNOWN, "does not boot"), {})
        programs, results = {}, []
        for key, first in since.items():
            good = place_of(id) >= place_of(first)
            programs[key] = Trial(Answer.GOOD if good else Answer.BAD, "" if good else "code: why")
            results.append(
                ProgramResult(
                    key.object,
                    key.program,
                    Outcome.PASSED if good else Outcome.FAILED,
                    code=None if good else Code.VERIFIER_REJECTED,
                    reason="" if good else "why",
                    source="" if good else "a.bpf.c:7",
                )
            )
        bad = {key for key, one in programs.items() if one.answer is Answer.BAD}
        whole = Trial(Answer.BAD if bad else Answer.GOOD, "", id)
        return ObjectsTrial(whole, programs, frozenset(optional & bad), tuple(results))

    boots = True
    monkeypatch.setattr("bpfmatrix.bisect.trial.of_objects", lambda *_: try_kernel)
    assert oldest(project, BisectOptions("a.o, b.o, c.o")) == 1
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert "a.o loads since 6.1.9 (not in 6.1.3)" in lines
    assert "b.o does not load on any kernel that was tried, for never" in lines
    assert "c.o loads since 5.10.7, the oldest kernel that was tried" in lines
    # All of its programs may fail.
    assert "d.o loads since 5.10.7, the oldest kernel that was tried" in lines
    table = [
        line.split() for line in lines if line.startswith(("a.o: ", "b.o: ", "c.o: ", "d.o: "))
    ]
    assert table == [
        ["a.o:", "new", "6.1.9", "6.1.3", "code:", "why"],
        ["b.o:", "never", "-", "6.12.4", "code:", "why"],
        ["c.o:", "maybe", "(optional)", "6.12.4", "6.1.9", "code:", "why"],
        ["d.o:", "perhaps", "(optional)", "6.1.3", "5.10.7", "code:", "why"],
    ]
    assert said.count("a.bpf.c:7") == 4
    oldest(project, BisectOptions("a.o, b.o, c.o"), as_json=True)
    told = json.loads(capsys.readouterr().out)
    found = {(one["object"], one["program"]): one["since"] for one in told["programs"]}
    assert found["a.o", "new"] == "6.1.9"
    assert found["b.o", "never"] is None
    assert told["programs"][1]["source"] == "a.bpf.c:7"
    boots = False
    oldest(project, BisectOptions("a.o, b.o, c.o"))
    assert "d.o loads since 6.1.3, the oldest kernel that was tried" in capsys.readouterr().out
