"""What the task `bisect` does: choose the kernels, try them, and print the first that differs."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.text import Text

from bpfmatrix.bisect import candidates, search, trial
from bpfmatrix.bisect.candidates import Candidates
from bpfmatrix.bisect.search import Answer, SearchResult
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.cli.console import make_console, say_json
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels import series
from bpfmatrix.session.observer import Observer
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.verify.options import VerifyOptions

__all__ = ["BisectOptions", "bisect"]

_STYLES = {Answer.GOOD: "green", Answer.BAD: "red", Answer.UNKNOWN: "yellow"}
_REASON_CHARACTERS = 110


@dataclass(frozen=True)
class BisectOptions:
    """What a user wants to find: since when one program loads, or tests pass."""

    title: str
    """The question, as it is printed."""
    program: str = ""
    """The program to load, as `verify` says. If it is empty, the tests are run, as `run` says."""
    verify: VerifyOptions = field(default_factory=VerifyOptions)
    run: RunOptions = field(default_factory=RunOptions)
    skipped: Answer = Answer.UNKNOWN
    """The answer of a kernel on which every test is skipped."""


def bisect(
    project: Project, options: BisectOptions, good: str, bad: str, as_json: bool = False
) -> None:
    """Find the kernel at which the answer changes, and print it and the kernels that were tried.

    BpfmatrixError if `good` is not good, if `bad` is not bad, or if one of them gives no answer.
    """
    console = make_console(stderr=as_json)
    status = Status("looking for kernels", console=console)
    if console.is_terminal:
        status.start()
    try:
        available = series.available(
            project.config, project.cache, lambda text, _=None: status.update(Text(text))
        )
        chosen = candidates.between(available, good, bad)
        project = dataclasses.replace(project, config=chosen.config)
        first = Answer.GOOD if chosen.ids[0] == good else Answer.BAD
        count = len(chosen.ids)
        console.print(
            f"bisect  {options.title}: {first} on {chosen.ids[0]}, "
            f"{first.opposite} on {chosen.ids[-1]}, {count} kernels",
        )
        trials = _Trials(_trial_of(project, options, status), console, status)
        try:
            found = search.search(chosen.ids, first, trials)
        except search.EndError as error:
            raise _end_error(trials, *error.args) from None
    finally:
        status.stop()
    if as_json:
        say_json(_as_json(found, chosen, trials))
    else:
        _print(console, found, chosen, trials)


def _trial_of(project: Project, options: BisectOptions, status: Status) -> Callable[[str], Trial]:
    observer = _StatusLine(status)
    if options.program:
        return trial.of_program(project, options.verify, options.program, observer)
    return trial.of_tests(project, options.run, options.skipped, observer)


class _StatusLine(Observer):
    """Shows progress, such as that of a kernel being fetched, in one line."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer."""
        percent = "" if fraction is None else f" {fraction:.0%}"
        self._status.update(Text(f"{name} {text}{percent}"))


class _Trials:
    """Tries a kernel, prints its answer, and keeps it."""

    def __init__(
        self, try_kernel: Callable[[str], Trial], console: Console, status: Status
    ) -> None:
        self._try = try_kernel
        self._console = console
        self._status = status
        self.by_id: dict[str, Trial] = {}

    def __call__(self, id: str) -> Answer:
        self._status.update(Text(f"{id}: booting"))
        tried = self.by_id[id] = self._try(id)
        line = Text(f"  {id:<9} {tried.version:<10} ")
        line.append(f"{tried.answer:<8}", _STYLES[tried.answer])
        line.append(f"{tried.seconds:6.1f} s  {_short(tried.reason)}")
        self._console.print(line)
        return tried.answer

    def named(self, id: str) -> str:
        """Return a kernel's id, and the release of it that ran."""
        version = self.by_id[id].version
        return id if version in ("", id) else f"{id} ({version})"


def _short(reason: str) -> str:
    line = reason.partition("\n")[0]
    return line if len(line) <= _REASON_CHARACTERS else f"{line[:_REASON_CHARACTERS]}..."


def _end_error(trials: _Trials, id: str, given: Answer, answer: Answer) -> BpfmatrixError:
    why = f": {_short(trials.by_id[id].reason)}" if trials.by_id[id].reason else ""
    if answer is Answer.UNKNOWN:
        return BpfmatrixError(
            f"{id} was given as {given}, but its answer is unknown{why}",
            f"Name another kernel with --{given}.",
        )
    return BpfmatrixError(
        f"{id} was given as {given}, but it is {answer}{why}",
        f"Name a kernel that is {given} with --{given}.",
    )


def _print(console: Console, found: SearchResult, chosen: Candidates, trials: _Trials) -> None:
    after = trials.by_id[found.after].answer
    console.print()
    console.print(
        Text("first ").append(str(after), _STYLES[after]).append(f"  {trials.named(found.after)}")
    )
    console.print(Text(f"last {after.opposite:<6} {trials.named(found.before)}"))
    notes = [f"{id} could not be tried: {_short(trials.by_id[id].reason)}" for id in found.unknown]
    notes += [gone.why for gone in chosen.missing_between(found.before, found.after)]
    if gap := chosen.never_offered(found.before, found.after):
        notes.append(f"no source of kernels.yaml has the series between them: {', '.join(gap)}")
    for note in notes:
        console.print(note)
    console.print(f"tried {len(found.answers)} of {len(chosen.ids)}: {', '.join(found.answers)}")


def _as_json(found: SearchResult, chosen: Candidates, trials: _Trials) -> dict[str, object]:
    return {
        "first": {"kernel": found.after, "answer": trials.by_id[found.after].answer},
        "last": {"kernel": found.before, "answer": trials.by_id[found.before].answer},
        "unknown": list(found.unknown),
        "not_offered": chosen.never_offered(found.before, found.after),
        "left_out": [dataclasses.asdict(gone) for gone in chosen.missing],
        "kernels": list(chosen.ids),
        "trials": {id: dataclasses.asdict(one) for id, one in trials.by_id.items()},
    }
