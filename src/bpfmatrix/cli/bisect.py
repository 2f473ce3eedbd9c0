"""What the task `bisect` does: choose the kernels, ask them, and say what came of it."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.text import Text

from bpfmatrix.bisect import candidates, search, trial
from bpfmatrix.bisect.candidates import Candidates
from bpfmatrix.bisect.search import Answer, SearchResult
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.cli.console import make_console
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
    """What a user asks a bisection about: one program of objects, or tests."""

    title: str
    program: str = ""
    verify: VerifyOptions = field(default_factory=VerifyOptions)
    run: RunOptions = field(default_factory=RunOptions)
    skipped: Answer = Answer.UNKNOWN
    """What a kernel says on which every test is skipped."""


def bisect(
    project: Project, options: BisectOptions, good: str, bad: str, as_json: bool = False
) -> None:
    """Find the first release at which the answer changes, and print it and what was tried.

    BpfmatrixError where an end is not what it was said to be, or where nothing can be said.
    """
    console = make_console(stderr=as_json)
    status = Status("looking for kernels", console=console)
    if console.is_terminal:
        status.start()
    try:
        available = series.available(
            project.config, project.cache, lambda text, _=None: status.update(text)
        )
        chosen = candidates.between(available, good, bad)
        project = dataclasses.replace(project, config=chosen.config)
        first = Answer.GOOD if chosen.ids[0] == good else Answer.BAD
        count = len(chosen.ids)
        console.print(
            f"bisect  {options.title}: {first} on {chosen.ids[0]}, "
            f"{first.opposite} on {chosen.ids[-1]}, {count} kernels",
            markup=False,
        )
        asker = _Asker(_question(project, options, status), console, status)
        try:
            found = search.search(chosen.ids, first, asker)
        except search.EndError as error:
            raise _end_error(asker, *error.args) from None
    finally:
        status.stop()
    if as_json:
        print(json.dumps(_as_json(found, chosen, asker), indent=1))
    else:
        _print(console, found, chosen, asker)


def _question(project: Project, options: BisectOptions, status: Status) -> Callable[[str], Trial]:
    observer = _StatusLine(status)
    if options.program:
        return trial.of_program(project, options.verify, options.program, observer)
    return trial.of_tests(project, options.run, options.skipped, observer)


class _StatusLine(Observer):
    """Shows what goes on, such as a kernel that is fetched, in one line."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer."""
        percent = "" if fraction is None else f" {fraction:.0%}"
        self._status.update(f"{name} {text}{percent}")


class _Asker:
    """Asks a kernel, says what it answers, and remembers that."""

    def __init__(self, ask: Callable[[str], Trial], console: Console, status: Status) -> None:
        self._ask = ask
        self._console = console
        self._status = status
        self.trials: dict[str, Trial] = {}

    def __call__(self, id: str) -> Answer:
        self._status.update(f"{id}: booting")
        told = self.trials[id] = self._ask(id)
        line = Text(f"  {id:<9} {told.version:<10} ")
        line.append(f"{told.answer:<8}", _STYLES[told.answer])
        line.append(f"{told.seconds:6.1f} s  {_short(told.reason)}")
        self._console.print(line)
        return told.answer

    def named(self, id: str) -> str:
        """The kernel and the release of it that ran."""
        version = self.trials[id].version
        return id if version in ("", id) else f"{id} ({version})"


def _short(reason: str) -> str:
    line = reason.partition("\n")[0]
    return line if len(line) <= _REASON_CHARACTERS else f"{line[:_REASON_CHARACTERS]}..."


def _end_error(asker: _Asker, id: str, said: Answer, answer: Answer) -> BpfmatrixError:
    why = f": {_short(asker.trials[id].reason)}" if asker.trials[id].reason else ""
    if answer is Answer.UNKNOWN:
        return BpfmatrixError(
            f"{id} was said to be {said}, but it does not tell{why}",
            f"Name another kernel with --{said}.",
        )
    return BpfmatrixError(
        f"{id} was said to be {said}, but it is {answer}{why}",
        f"Name a kernel that is {said} with --{said}.",
    )


def _print(console: Console, found: SearchResult, chosen: Candidates, asker: _Asker) -> None:
    after = asker.trials[found.after].answer
    console.print()
    console.print(
        Text("first ").append(str(after), _STYLES[after]).append(f"  {asker.named(found.after)}")
    )
    console.print(Text(f"last {after.opposite:<6} {asker.named(found.before)}"))
    notes = [f"{id} could not be tried: {_short(asker.trials[id].reason)}" for id in found.unknown]
    notes += [gone.why for gone in chosen.missing_between(found.before, found.after)]
    if gap := chosen.never_offered(found.before, found.after):
        notes.append(f"between them no source of kernels.yaml has {', '.join(gap)}")
    for note in notes:
        console.print(note, markup=False)
    console.print(
        f"tried {len(found.answers)} of {len(chosen.ids)}: {', '.join(found.answers)}", markup=False
    )


def _as_json(found: SearchResult, chosen: Candidates, asker: _Asker) -> dict[str, object]:
    return {
        "first": {"kernel": found.after, "answer": asker.trials[found.after].answer},
        "last": {"kernel": found.before, "answer": asker.trials[found.before].answer},
        "unknown": list(found.unknown),
        "not_offered": chosen.never_offered(found.before, found.after),
        "left_out": [dataclasses.asdict(gone) for gone in chosen.missing],
        "kernels": list(chosen.ids),
        "trials": {id: dataclasses.asdict(one) for id, one in asker.trials.items()},
    }
