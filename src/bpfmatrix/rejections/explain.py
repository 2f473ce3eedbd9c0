"""Runs of the tests whose failures are explained: each with its rejections, and the lines of C.

`explained` looks for rejections in what failed tests printed. Libraries print only the last line of
the verifier's log, so the complete one comes from `verify`: from results of the same run, or by
loading just these programs on those kernels, with one more machine for each.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.text import counted
from bpfmatrix.payload.model import Payload
from bpfmatrix.rejections import judge, printed
from bpfmatrix.rejections.judge import Verified
from bpfmatrix.rejections.object_files import FoundObject, ObjectFiles
from bpfmatrix.rejections.printed import PrintedFailure, has_verifier_words
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, Rejection, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Verification
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import run_side_by_side
from bpfmatrix.session.workload import writing
from bpfmatrix.verify import line_info
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.plan import IGNORE_REQUIREMENTS
from bpfmatrix.verify.workload import VerifyWorkload

__all__ = ["ExplanationInterrupted", "explained"]

_FOLDER = "rejections"
# So many failures of a kernel are looked into, and so many programs are loaded once more.
_MOST_FAILURES = 100
_MOST_PROGRAMS = 20
_LOG_BYTES = 2 << 20


class ExplanationInterrupted(KeyboardInterrupt):
    """Ctrl-C while failures were explained; `runs` are the runs with what was known until then."""

    def __init__(self, runs: list[KernelRun]) -> None:
        super().__init__()
        self.runs = runs


@dataclass
class _Failure:
    """A rejection that a failed test printed, and what is known of it so far."""

    kernel: str
    printed: PrintedFailure
    found: Rejection
    objects: Sequence[FoundObject] = ()
    """Those that the program may be of."""
    is_settled: bool = False
    is_rejection: bool = True
    """False if no object has the program that is named, so that the words are about another."""


def explained(
    project: Project,
    runs: Sequence[KernelRun],
    payloads: Mapping[str, Payload],
    observer: Observer,
    verifications: Sequence[Verification] = (),
    *,
    may_boot: bool = True,
    jobs: int | None = None,
) -> list[KernelRun]:
    """Return the runs with the rejections of their tests, and write their results again.

    `payloads` are what the kernels ran, by architecture. `verifications` are results of `verify`
    from the same run. Unless `may_boot`, no machine is started; `jobs` is the limit of those that
    run at once. BpfmatrixError if a result can't be written. ExplanationInterrupted on Ctrl-C,
    after the results were written.
    """
    failures = {run.kernel: _failures(project, run, observer) for run in runs if not run.cached}
    every = [one for several in failures.values() for one in several]
    if not every:
        return list(runs)
    interrupted = False
    try:
        files_of = _look_at_objects(project, every, payloads, verifications)
        if may_boot:
            _look_again(project, every, files_of, observer, jobs)
    except KeyboardInterrupt:
        interrupted = True
    found = [_kept(project, run, failures.get(run.kernel, ())) for run in runs]
    if interrupted:
        raise ExplanationInterrupted(found)
    return found


def _look_at_objects(
    project: Project,
    every: Iterable[_Failure],
    payloads: Mapping[str, Payload],
    verifications: Sequence[Verification],
) -> dict[str, ObjectFiles]:
    """Take what objects and earlier results tell, and return the objects by architecture."""
    files_of = {
        arch: ObjectFiles(project, payload, project.state / _FOLDER / "objects")
        for arch, payload in payloads.items()
    }
    results = {one.kernel: one for one in verifications}
    for one in every:
        known = files_of.get(project.config.kernel(one.kernel).arch)
        if known is None:
            continue
        one.objects = known.having(one.found.binary, one.printed.program)
        if one.printed.program and not one.objects:
            one.is_rejection = has_verifier_words(one.printed.log)
        _place(project, one, known)
        if one.kernel in results:
            _settle(one, _of_verification(project, one, results[one.kernel]), known)
    return files_of


def _look_again(
    project: Project,
    every: Iterable[_Failure],
    files_of: Mapping[str, ObjectFiles],
    observer: Observer,
    jobs: int | None,
) -> None:
    """Take what `verify` says of the programs that it can tell more of."""
    waiting = [
        one
        for one in every
        if one.objects and not one.is_settled and judge.needs_verify(one.found, one.printed)
    ]
    for one, verified in _load(project, waiting, observer, jobs):
        known = files_of[project.config.kernel(one.kernel).arch]
        _settle(one, verified, known)
        if not one.is_settled:
            one.found = judge.with_apart(one.found, one.printed, verified)


def _place(project: Project, one: _Failure, known: ObjectFiles) -> None:
    """Take what the object tells by itself: the lines of C."""
    if len(one.objects) > 1 and one.found.program:
        lines_of = {each.path: line_info.read(each.path, one.found.program) for each in one.objects}
        alike = {path: judge.count_alike(one.printed, lines) for path, lines in lines_of.items()}
        best = max(alike.values())
        one.objects = [each for each in one.objects if alike[each.path] == best]
    if len(one.objects) != 1:
        return
    object = one.objects[0]
    if not one.found.program:
        name = judge.named_in_log(one.printed, object.contents.programs)
        one.printed = dataclasses.replace(one.printed, program=name)
        one.found = dataclasses.replace(one.found, program=name)
    if name := one.found.program:
        lines = line_info.read(object.path, name)
        one.found = judge.at_lines(one.found, one.printed, lines, object.folders, known.source)
        one.found = dataclasses.replace(one.found, object=project.relative(object.path))


def _settle(one: _Failure, verified: Sequence[Verified], known: ObjectFiles) -> None:
    """Take what `verify` says of a rejection, if it was refused for the same reason."""
    if match := judge.same(one.printed, verified):
        one.found = judge.with_verified(one.found, match, known.source)
        one.is_settled = True


def _kept(project: Project, run: KernelRun, failures: Iterable[_Failure]) -> KernelRun:
    """Return a run with its rejections, and write its result again."""
    rejections = tuple(one.found for one in failures if one.is_rejection)
    if not rejections:
        return run
    changed = dataclasses.replace(run, rejections=rejections)
    path = project.results / f"{run.kernel}.json"
    with writing(path):
        files.write(changed, path)
    return changed


def _failures(project: Project, run: KernelRun, observer: Observer) -> list[_Failure]:
    """Return what the failed tests of a run printed of rejections."""
    found: list[_Failure] = []
    for test in run.failures[:_MOST_FAILURES]:
        if not run.is_of_several(test):
            found += _of_output(run, test, test.output)
    if len(run.failures) > _MOST_FAILURES:
        observer.note(
            f"{run.kernel}: programs that did not load are only looked for in the first "
            f"{_MOST_FAILURES} of {len(run.failures)} tests that failed"
        )
    explained = {one.found.binary for one in found}
    for binary in dict.fromkeys(test.binary for test in run.failures):
        if binary not in explained and (log := run.log_of(binary)):
            # libbpf prints on standard error, which runners keep apart from the output of a test.
            text = _apart_from_tests(run, binary, _end_of(project.root / log))
            whole = TestResult(binary, binary, Outcome.FAILED)
            found += _of_output(run, whole, text)
    return found


def _apart_from_tests(run: KernelRun, binary: str, log: str) -> str:
    """Return what a log has beside the output of the tests, whether they passed or not."""
    outputs = (test.output for test in run.tests if test.binary == binary)
    known = {line.strip() for output in outputs for line in output.splitlines()}
    return "\n".join(line for line in log.splitlines() if line.strip() not in known)


def _of_output(run: KernelRun, test: TestResult, output: str) -> list[_Failure]:
    each = ((one, judge.as_printed(test, one)) for one in printed.find(output))
    return [_Failure(run.kernel, one, found) for one, found in each if found]


def _end_of(path: Path) -> str:
    """Return the end of a log; nothing if it can't be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        return file.read().decode(errors="replace")
    return ""


def _of_verification(project: Project, one: _Failure, verification: Verification) -> list[Verified]:
    """Return the results of the programs that a rejection may be of."""
    folders = {project.relative(each.path): each.folders for each in one.objects}
    return [
        Verified(
            result,
            _end_of(project.root / result.log) if result.log else "",
            folders=folders[result.object],
        )
        for result in verification.programs
        if result.object in folders and one.printed.program in ("", result.program)
    ]


def _load(
    project: Project, waiting: Sequence[_Failure], observer: Observer, jobs: int | None
) -> Iterable[tuple[_Failure, list[Verified]]]:
    """Load programs once more, and yield what `verify` says of each; nothing if it can't run.

    Each library's programs are loaded by its own loader. All programs of an object are loaded if a
    name is not known.
    """
    groups: dict[tuple[str, bool], list[_Failure]] = {}
    for one in waiting:
        groups.setdefault((one.printed.loader, bool(one.printed.program)), []).append(one)
    for (loader, is_named), group in groups.items():
        names = dict.fromkeys(one.printed.program for one in group if is_named)
        programs = tuple(names)[:_MOST_PROGRAMS]
        if len(names) > len(programs):
            observer.note(
                f"only {len(programs)} of {len(names)} programs that did not load are loaded again"
            )
        chosen = [one for one in group if not is_named or one.printed.program in programs]
        try:
            yield from _loaded(project, loader, programs, chosen, observer, jobs)
        except BpfmatrixError as error:
            observer.note(f"no complete verifier log: {error.what}")


def _loaded(
    project: Project,
    loader: str,
    programs: tuple[str, ...],
    group: Sequence[_Failure],
    observer: Observer,
    jobs: int | None,
) -> list[tuple[_Failure, list[Verified]]]:
    kernels = list(dict.fromkeys(one.kernel for one in group))
    objects = {each.path: each for one in group for each in one.objects}
    what = counted(len(programs), "program") if programs else "the programs of the tests"
    observer.note(f"verify  {what} that did not load, again on {', '.join(kernels)}")
    options = VerifyOptions(objects=tuple(map(str, objects)), loaders=(loader,), only=programs)
    trial, quiet = _for_trial(project), _Progress(observer)
    archs = {project.config.kernel(id).arch for id in kernels}
    workload = VerifyWorkload.make(trial, options, quiet, project.state / _FOLDER, archs)
    results = run_side_by_side(trial, kernels, workload, quiet, jobs)
    by_kernel = {one.kernel: one for one in results}
    return [(one, _verified(project, one, by_kernel[one.kernel], workload)) for one in group]


def _verified(
    project: Project, one: _Failure, verification: Verification, workload: VerifyWorkload
) -> list[Verified]:
    lines = workload.details[one.kernel].lines
    return [
        dataclasses.replace(each, lines=lines.get(each.result.key, ()), ran_now=True)
        for each in _of_verification(project, one, verification)
    ]


def _for_trial(project: Project) -> Project:
    """Return the project without what keeps a program from being loaded, or excuses it."""
    payload = project.config.payload
    payload = payload.model_copy(update={"env": {**payload.env, IGNORE_REQUIREMENTS: "1"}})
    config = project.config.model_copy(update={"payload": payload, "expect": []})
    return dataclasses.replace(project, config=config)


class _Progress(Observer):
    """Passes on what is being done, and nothing else: the results are those of the tests."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer."""
        self._observer.doing(kernel, name, text, fraction)
