"""What the task `bisect --oldest` does: since which kernel each program of some objects loads."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from bpfmatrix.bisect import trial
from bpfmatrix.bisect.candidates import Candidates
from bpfmatrix.bisect.search import Answer, search_oldest
from bpfmatrix.bisect.trial import ObjectsTrial, Trial
from bpfmatrix.cli.bisect import (
    STYLES,
    BisectOptions,
    StatusLine,
    choose_candidates,
    could_not_be_tried,
    release_name,
    short,
    status_of,
)
from bpfmatrix.cli.console import make_console, make_table, say_json
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import counted
from bpfmatrix.results.verification import ProgramKey, ProgramResult, RefusedObject, labels

__all__ = ["oldest"]


@dataclass(frozen=True)
class _Since:
    """Since when one program loads."""

    key: ProgramKey
    before: str | None
    """The newest kernel on which it does not load; None if it loads on all that were tried."""
    after: str | None
    """The oldest kernel on which it loads; None if it loads on none."""
    optional: bool
    """Whether it need not load."""
    why: ProgramResult | None
    """Its result on `before`."""


def oldest(project: Project, options: BisectOptions, as_json: bool = False) -> int:
    """Find since which kernel each program loads, and print that, and why not on older ones.

    All programs are loaded in each trial. The exit status is 1 if an object has a program that has
    to load, and loads on no kernel, and 2 if a file is no object.
    """
    console = make_console(stderr=as_json)
    with status_of(console) as status:
        chosen, project = choose_candidates(project, status, console, None, None, options.build)
        observer = StatusLine(status)
        try_kernel = trial.of_objects(project, options.verify, observer)
        console.print(
            Text(
                f"oldest  {options.title}: {counted(len(chosen.ids), 'kernel')}, "
                f"{chosen.ids[0]} to {chosen.ids[-1]}"
            )
        )
        trials: dict[str, ObjectsTrial] = {}

        def ask(id: str) -> Mapping[ProgramKey, Answer]:
            status.update(Text(f"{id}: booting"))
            trials[id] = try_kernel(id)
            _print_trial(console, id, trials[id])
            return {key: one.answer for key, one in trials[id].programs.items()}

        found = search_oldest(chosen.ids, ask, chosen.sooner)
    if not found:
        last = trials[chosen.ids[-1]].whole
        raise BpfmatrixError(
            f"none of {counted(len(trials), 'kernel')} gives an answer; "
            f"{chosen.ids[-1]}: {short(last.reason)}",
            f"`{command('verify')}` says more about one kernel.",
        )
    rows = [_since(key, *ends, trials) for key, ends in found.items()]
    refused = trials[chosen.ids[-1]].refused
    lines = _lines(rows, chosen, trials)
    if as_json:
        say_json(_as_json(rows, lines, chosen, trials, refused))
    else:
        _print(console, rows, lines, chosen, trials)
        for each in refused:
            console.print(Text(f"{each.object} is left out: {each.reason}"))
    if any(row.after is None and not row.optional for row in rows):
        return 1
    return 2 if refused else 0  # as `verify` does


def _since(
    key: ProgramKey, before: str | None, after: str | None, trials: Mapping[str, ObjectsTrial]
) -> _Since:
    optional = any(key in one.optional for one in trials.values())
    results = trials[before].results if before is not None else ()
    return _Since(
        key, before, after, optional, next((one for one in results if one.key == key), None)
    )


def _version(trials: Mapping[str, ObjectsTrial], id: str) -> str:
    return release_name(id, trials[id].whole.version)


def _lines(
    rows: Sequence[_Since], chosen: Candidates, trials: Mapping[str, ObjectsTrial]
) -> dict[str, str]:
    """Return the answer for each object in one line."""
    lines = {}
    place = {id: number for number, id in enumerate(chosen.ids)}
    for object in dict.fromkeys(row.key.object for row in rows):
        needed = [row for row in rows if row.key.object == object and not row.optional]
        never = [row.key.program for row in needed if row.after is None]
        before = max(
            (row.before for row in needed if row.before), key=place.__getitem__, default=""
        )
        after = max((row.after for row in needed if row.after), key=place.__getitem__, default="")
        if never:
            lines[object] = f"does not load on any kernel that was tried, for {', '.join(never)}"
        elif before:
            since, not_in = _version(trials, after), _version(trials, before)
            lines[object] = f"loads since {since} (not in {not_in})"
        else:
            tried = (id for id in chosen.ids if id in trials and trials[id].programs)
            first = after or next(tried)
            lines[object] = (
                f"loads since {_version(trials, first)}, the oldest kernel that was tried"
            )
    return lines


def _print_trial(console: Console, id: str, one: ObjectsTrial) -> None:
    whole = one.whole
    line = Text(f"  {id:<9} {whole.version:<10} ")
    if one.programs:
        good = sum(each.answer is Answer.GOOD for each in one.programs.values())
        line.append(f"{good} of {len(one.programs)} load", STYLES[whole.answer])
        line.append(f"{whole.seconds:8.1f} s")
    else:
        line.append("unknown", STYLES[Answer.UNKNOWN])
        line.append(f"  {short(whole.reason.removeprefix(f'{id}: '))}")
    console.print(line)


def _print(
    console: Console,
    rows: Sequence[_Since],
    lines: Mapping[str, str],
    chosen: Candidates,
    trials: Mapping[str, ObjectsTrial],
) -> None:
    newer = [row for row in rows if row.before is not None]
    if newer:
        console.print()
        table = make_table("program", "loads since", "not in", "why not")
        extra = labels(row.key for row in rows)
        several = len(lines) > 1
        for row in newer:
            assert row.before is not None
            name = f"{row.key.object}: {row.key.program}" if several else row.key.program
            if extra[row.key]:
                name += f" ({extra[row.key]})"
            if row.optional:
                name += " (optional)"
            since = _version(trials, row.after) if row.after else "-"
            table.add_row(name, since, _version(trials, row.before), _why(row, trials))
        console.print(table)
    console.print()
    for object, line in lines.items():
        console.print(Text(f"{object} {line}", "bold"))
    for id, one in trials.items():
        if not one.programs:
            console.print(Text(could_not_be_tried(id, one.whole.reason)))
    for before, after in dict.fromkeys((row.before, row.after) for row in newer):
        if before and after and (gap := chosen.never_offered(before, after)):
            names = f"{_version(trials, before)} and {_version(trials, after)}"
            console.print(f"no source of kernels.yaml has series between {names}: {', '.join(gap)}")
    console.print(f"tried {len(trials)} of {len(chosen.ids)}: {', '.join(trials)}")


def _why(row: _Since, trials: Mapping[str, ObjectsTrial]) -> str:
    assert row.before is not None
    why: Trial = trials[row.before].programs[row.key]
    source = f"\n{row.why.source}" if row.why and row.why.source else ""
    return f"{why.reason}{source}"


def _as_json(
    rows: Sequence[_Since],
    lines: Mapping[str, str],
    chosen: Candidates,
    trials: Mapping[str, ObjectsTrial],
    refused: Sequence[RefusedObject],
) -> dict[str, object]:
    programs = [
        {
            "object": row.key.object,
            "program": row.key.program,
            "preset": row.key.preset,
            "optional": row.optional,
            "since": row.after,
            "not_in": row.before,
            "code": row.why.code if row.why else None,
            "reason": row.why.reason if row.why else "",
            "source": row.why.source if row.why else "",
        }
        for row in rows
    ]
    return {
        "objects": dict(lines),
        "refused": [dataclasses.asdict(one) for one in refused],
        "programs": programs,
        "kernels": list(chosen.ids),
        "trials": {id: dataclasses.asdict(one.whole) for id, one in trials.items()},
    }
