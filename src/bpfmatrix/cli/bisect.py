"""What the task `bisect` does: choose the kernels, try them, and print the first that differs."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.text import Text

from bpfmatrix.bisect import candidates, search, trial
from bpfmatrix.bisect.candidates import Candidates
from bpfmatrix.bisect.search import Answer, Ends, SearchResult
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.console import make_console, say_json
from bpfmatrix.config.kernel_ids import kernel_of
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.documentation import page
from bpfmatrix.host.text import counted
from bpfmatrix.kernels import releases
from bpfmatrix.kernels.build import estimated_minutes
from bpfmatrix.kernels.releases import place_of
from bpfmatrix.session.observer import Observer
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.verify.options import VerifyOptions

__all__ = [
    "STYLES",
    "BisectOptions",
    "StatusLine",
    "bisect",
    "release_name",
    "short",
    "status_of",
    "trial_of",
]

STYLES = {Answer.GOOD: "green", Answer.BAD: "red", Answer.UNKNOWN: "yellow"}
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
    build: bool = False
    """Whether to try kernels that have to be built first."""


def bisect(
    project: Project,
    options: BisectOptions,
    good: str | None,
    bad: str | None,
    as_json: bool = False,
) -> int:
    """Find the kernel at which the answer changes, and print it and the kernels that were tried.

    An end that is None is found by trials. The exit status is 1 if no kernel is good.
    BpfmatrixError if `good` is not good, if `bad` is not bad, or if one of them gives no answer.
    """
    console = make_console(stderr=as_json)
    with status_of(console) as status:
        chosen, project = choose_candidates(project, status, console, good, bad, options.build)
        trials = _Trials(trial_of(project, options, StatusLine(status)), console, status)
        ends = _ends(chosen, good, bad, options.title, trials, console)
        if not ends.differ:
            found = None
        else:
            kernels = chosen.ids[ends.first : ends.last + 1]
            try:
                found = search.search(kernels, ends.answers[0], trials, chosen.sooner)
            except search.EndError as error:
                raise _end_error(trials, *error.args) from None
    line = _line(found, ends, chosen, trials, options)
    if as_json:
        say_json(_as_json(found, line, chosen, trials))
    else:
        _print(console, found, line, chosen, trials)
    return 1 if found is None and ends.answers[0] is Answer.BAD else 0


@contextlib.contextmanager
def status_of(console: Console, text: str = "looking for kernels") -> Iterator[Status]:
    """Show what is being done, in one line on a terminal."""
    status = Status(text, console=console)
    if console.is_terminal:
        status.start()
    try:
        yield status
    finally:
        heartbeat.clear("bisect")
        status.stop()


def choose_candidates(
    project: Project,
    status: Status,
    console: Console,
    good: str | None,
    bad: str | None,
    build: bool,
) -> tuple[Candidates, Project]:
    """Return the kernels to choose among, and the project with an entry for each of them.

    Prints which sources can't be read, and which kernels are left out.
    """
    found = releases.offered(
        project.config, project.cache, lambda text, _=None: status.update(Text(text)), build=build
    )
    for problem in found.problems:
        console.print(Text(f"left out: {problem}", "yellow"))
    unbuilt = sorted(found.unbuilt - {good, bad})
    if unbuilt and build:
        console.print(
            f"{counted(len(unbuilt), 'kernel')} would have to be built, which takes about "
            f"{estimated_minutes()} minutes each"
        )
    elif unbuilt:
        console.print(
            Text(f"left out, as they would have to be built (--build): {', '.join(unbuilt)}")
        )
    chosen = candidates.among(found, good, bad)
    if not chosen.ids:
        raise BpfmatrixError(
            "no source of kernels.yaml has a kernel that could be tried",
            f"See {page('kernel-sources.md')}",
        )
    return chosen, dataclasses.replace(project, config=chosen.config)


def _ends(
    chosen: Candidates,
    good: str | None,
    bad: str | None,
    title: str,
    trials: "_Trials",
    console: Console,
) -> Ends:
    """Return the ends of the search; the one that the user did not name is found by trials."""
    count = counted(len(chosen.ids), "kernel")
    if good is not None and bad is not None:
        first = Answer.GOOD if chosen.ids[0] == good else Answer.BAD
        console.print(
            f"bisect  {title}: {first} on {chosen.ids[0]}, "
            f"{first.opposite} on {chosen.ids[-1]}, {count}",
        )
        return Ends(0, len(chosen.ids) - 1, (first, first.opposite), ())
    console.print(f"bisect  {title}: {count}, {chosen.ids[0]} to {chosen.ids[-1]}")
    named = {id: said for id, said in ((good, Answer.GOOD), (bad, Answer.BAD)) if id is not None}
    ends = search.find_ends(chosen.ids, trials, named)
    if ends is None:
        why = trials.by_id[chosen.ids[-1]].reason
        raise BpfmatrixError(
            f"none of the {count} gives an answer; {chosen.ids[-1]}: {short(why)}",
            "Name two kernels that can be tried with --good and --bad.",
        )
    return ends


def trial_of(
    project: Project, options: BisectOptions, observer: Observer
) -> Callable[[str], Trial]:
    """Return the function that tries a kernel, given its id; builds what it needs."""
    if options.program:
        return trial.of_program(project, options.verify, options.program, observer)
    return trial.of_tests(project, options.run, options.skipped, observer)


class StatusLine(Observer):
    """Shows progress, such as that of a kernel being fetched, in one line."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer."""
        percent = "" if fraction is None else f" {fraction:.0%}"
        heartbeat.doing("bisect", kernel, f"{name} {text}")
        self._status.update(Text(f"{name} {text}{percent}"))

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Observer."""
        heartbeat.done("bisect", kernel)


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
        """Return the answer of a kernel, which is tried once."""
        if id in self.by_id:
            return self.by_id[id].answer
        self._status.update(Text(f"{id}: booting"))
        heartbeat.doing("bisect", id, "booting")
        tried = self.by_id[id] = self._try(id)
        heartbeat.done("bisect", id)
        line = Text(f"  {id:<9} {tried.version:<10} ")
        line.append(f"{tried.answer:<8}", STYLES[tried.answer])
        line.append(
            f"{tried.seconds:6.1f} s  {short(tried.reason.removeprefix(f'{id}: '))}".rstrip()
        )
        self._console.print(line)
        return tried.answer

    def version(self, id: str) -> str:
        """Return the release that ran; of an RPM package, with the number of its build."""
        return release_name(id, self.by_id[id].version if id in self.by_id else "")

    def answer(self, id: str) -> Answer | None:
        """Return the answer of a kernel; None if it was not tried."""
        return self.by_id[id].answer if id in self.by_id else None


def could_not_be_tried(id: str, reason: str) -> str:
    """Return the note on a kernel that gave no answer."""
    return f"{id} gave no answer: {short(reason.removeprefix(f'{id}: '))}"


def release_name(id: str, version: str) -> str:
    """Return what a kernel that ran is called: its version, unless its id says more."""
    return version if version and len(place_of(id)) <= 3 else kernel_of(id)


def short(reason: str) -> str:
    """Return the beginning of a reason, for a line of a table."""
    line = reason.partition("\n")[0]
    return line if len(line) <= _REASON_CHARACTERS else f"{line[:_REASON_CHARACTERS]}..."


def _end_error(trials: _Trials, id: str, given: Answer, answer: Answer) -> BpfmatrixError:
    why = f": {short(trials.by_id[id].reason)}" if trials.by_id[id].reason else ""
    if answer is Answer.UNKNOWN:
        return BpfmatrixError(
            f"{id} was given as {given}, but its answer is unknown{why}",
            f"Name another kernel with --{given}.",
        )
    return BpfmatrixError(
        f"{id} was given as {given}, but it is {answer}{why}",
        f"Name a kernel that is {given} with --{given}.",
    )


def _line(
    found: SearchResult | None,
    ends: Ends,
    chosen: Candidates,
    trials: _Trials,
    options: BisectOptions,
) -> str:
    """Return the answer in one line: `since 6.1.187 (not in 5.10.262)`."""
    if found is not None:
        before, after = trials.version(found.before), trials.version(found.after)
        if trials.by_id[found.after].answer is Answer.GOOD:
            return f"since {after} (not in {before})"
        return f"until {before} (not in {after})"
    named = {chosen.ids[ends.first], chosen.ids[ends.last]}
    known = [
        id for id in chosen.ids if id in named or trials.answer(id) not in (None, Answer.UNKNOWN)
    ]
    verb = "load" if options.program else "work"
    if len(known) == 1:
        said = f"{verb}s" if ends.answers[0] is Answer.GOOD else f"does not {verb}"
        return f"{said} on {trials.version(known[0])}, the only kernel that gave an answer"
    quantity = "none" if ends.answers[0] is Answer.BAD else "all"
    untried = [id for id in known if trials.answer(id) is None]
    names = ", ".join(map(trials.version, known))
    trust = f" ({', '.join(untried)} was not tried, but named)" if untried else ""
    return f"{verb}s on {quantity} of {counted(len(known), 'kernel')}: {names}{trust}"


def _print(
    console: Console,
    found: SearchResult | None,
    line: str,
    chosen: Candidates,
    trials: _Trials,
) -> None:
    console.print()
    console.print(Text(line, "bold"))
    notes = [
        could_not_be_tried(id, one.reason)
        for id, one in trials.by_id.items()
        if one.answer is Answer.UNKNOWN
    ]
    if found is not None:
        notes += [gone.why for gone in chosen.missing_between(found.before, found.after)]
        if gap := chosen.never_offered(found.before, found.after):
            notes.append(f"no source of kernels.yaml has the series between them: {', '.join(gap)}")
    for note in notes:
        console.print(Text(note))
    tried = ", ".join(trials.by_id)
    console.print(f"tried {len(trials.by_id)} of {len(chosen.ids)}: {tried}")


def _as_json(
    found: SearchResult | None, line: str, chosen: Candidates, trials: _Trials
) -> dict[str, object]:
    def named(id: str) -> dict[str, object]:
        return {"kernel": id, "answer": trials.by_id[id].answer}

    unknown = [id for id, one in trials.by_id.items() if one.answer is Answer.UNKNOWN]
    return {
        "answer": line,
        "first": named(found.after) if found else None,
        "last": named(found.before) if found else None,
        "unknown": list(found.unknown) if found else unknown,
        "not_offered": chosen.never_offered(found.before, found.after) if found else [],
        "left_out": [dataclasses.asdict(gone) for gone in chosen.missing],
        "kernels": list(chosen.ids),
        "trials": {id: dataclasses.asdict(one) for id, one in trials.by_id.items()},
    }
