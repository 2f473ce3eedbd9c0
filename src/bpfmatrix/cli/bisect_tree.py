"""What the task `bisect --tree` does: bisect a git repository of Linux, building each step."""

import contextlib
import dataclasses
import json
import math
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from bpfmatrix.bisect import built_commit
from bpfmatrix.bisect.commits import Commit, CommitSearch, FoundCommit, History
from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.bisect import STYLES, BisectOptions, StatusLine, short, status_of, trial_of
from bpfmatrix.cli.console import make_console, say, say_json
from bpfmatrix.config.project import Project
from bpfmatrix.host import tools
from bpfmatrix.host.progress import Progress
from bpfmatrix.host.text import counted
from bpfmatrix.payload import disk
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.workload import MatrixWorkload
from bpfmatrix.suite.workload import SuiteWorkload
from bpfmatrix.verify.workload import VerifyWorkload

__all__ = ["bisect_tree", "question"]


def bisect_tree(
    project: Project,
    options: BisectOptions,
    tree: Path,
    good: str,
    bad: str,
    *,
    fresh: bool = False,
    as_json: bool = False,
) -> int:
    """Find the commit at which the answer changes, and print it and the commits that were tried.

    `fresh` tries commits again whose answers an earlier call has noted. The exit status is 1 if
    several commits are left, as those between them gave no answer.
    """
    console = make_console(stderr=as_json)
    history = History(tree.expanduser(), good, bad, project.root / "ci-kernels/_build")
    project = built_commit.with_built_kernel(project, history.name)
    # A template would be made for each commit, and never be used again.
    options = dataclasses.replace(
        options,
        verify=dataclasses.replace(options.verify, cold=True),
        run=dataclasses.replace(options.run, cold=True),
    )
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(status_of(console, "building what is tried"))
        observer = StatusLine(status)
        search = CommitSearch(history, question(project, history.name, options, observer))
        if fresh:
            search.forget()
        stack.enter_context(search.held())
        progress = _progress(console, status)
        _begin(console, history, options, len(search.known))
        try_kernel = trial_of(project, options, observer)
        try_commit = built_commit.of_built_commits(
            project, history.name, history.worktree, try_kernel, progress
        )

        def told(commit: Commit) -> Trial:
            trial = try_commit(commit)
            _print_trial(console, commit, trial)
            return trial

        for sha, trial in search.known.items():
            _print_trial(console, history.describe(sha), trial)
        try:
            found = search.run(told)
        except KeyboardInterrupt:
            say("interrupted: the same command goes on where this one was", stderr=True)
            raise
    if as_json:
        say_json(_as_json(history, found))
    else:
        _print(console, history, found)
    return 0 if len(found.commits) == 1 else 1


def question(project: Project, kernel: str, options: BisectOptions, observer: Observer) -> str:
    """Return a text that is the same as long as the same is asked of each commit.

    It has the checksum of what runs in the guest, which is built for it, and all settings. `kernel`
    is the id of the kernel that is built. BpfmatrixError if the tests or the objects do not build.
    """
    config = project.config
    machine = config.kernel(kernel)
    workload: MatrixWorkload[Any] = (
        VerifyWorkload.make(project, options.verify, observer)
        if options.program
        else SuiteWorkload(project, options.run)
    )
    payload = workload.payload(machine.arch, observer)
    settings = [
        config.payload.model_dump(mode="json"),
        config.verify.model_dump(mode="json"),
        machine.model_dump(mode="json", exclude={"root", "source", "expect"}),
        built_commit.requested_options(project),
        disk.image(payload, project.cache, observer.progress("", "build")).id,
    ]
    asked = [options.program, repr(options.verify), repr(options.run), options.skipped]
    return json.dumps([options.title, *asked, *settings], sort_keys=True)


def _progress(console: Console, status: Status) -> Progress:
    """Return what shows a build: in one line on a terminal, else each new step once."""
    last = ""

    def show(text: str, fraction: float | None = None) -> None:
        nonlocal last
        heartbeat.doing("bisect", "", text)
        percent = "" if fraction is None else f" {fraction:.0%}"
        if console.is_terminal:
            status.update(Text(f"{text}{percent}"))
        elif text != last:
            console.print(Text(f"  {text}"))
        last = text

    return show


def _begin(console: Console, history: History, options: BisectOptions, known: int) -> None:
    count, names = history.count, history.names
    console.print(
        Text(
            f"bisect  {options.title}: {counted(count, 'commit')} of {history.tree} between "
            f"{names[history.before]} ({history.first}) and {names[history.after]} "
            f"({history.first.opposite})"
        )
    )
    steps = 2 + math.ceil(math.log2(count)) if count > 1 else 2
    text = f"        about {steps} kernels are built, with both ends"
    if known:
        text += f"; {counted(known, 'answer')} of an earlier call are known"
    console.print(Text(text))
    if tools.find("ccache") is None:
        console.print(Text("        ccache is not installed; with it, builds would be faster"))


def _print_trial(console: Console, commit: Commit, trial: Trial) -> None:
    line = Text(f"  {commit.short}  ")
    line.append(f"{trial.answer:<8}", STYLES[trial.answer])
    line.append(f"{trial.seconds:6.1f} s  {commit.subject}")
    console.print(line)
    if trial.reason:
        console.print(Text(f"                {short(trial.reason)}"))


def _print(console: Console, history: History, found: FoundCommit) -> None:
    console.print()
    for number, commit in enumerate(found.commits):
        words = f"first {found.answer}" if not number else "or       "
        style = STYLES[found.answer] if len(found.commits) == 1 else "yellow"
        console.print(Text(f"{words:<10} ").append(commit.sha, style))
        console.print(Text(f"           {commit.subject}"))
        console.print(Text(f"           {commit.author}, {commit.date}"))
    if len(found.commits) > 1:
        console.print(Text("Commits among them gave no answer."))
    console.print(Text(f"tried {counted(len(found.trials), 'commit')}"))
    tree = shlex.quote(str(history.tree))
    console.print(Text(f"  look at it    git -C {tree} show {found.commits[0].short}"))
    remove = f"git -C {tree} worktree remove --force {shlex.quote(str(history.worktree))}"
    console.print(Text(f"  free space    {remove}"))


def _as_json(history: History, found: FoundCommit) -> dict[str, object]:
    return {
        "answer": found.answer if len(found.commits) == 1 else Answer.UNKNOWN,
        "commits": [dataclasses.asdict(commit) for commit in found.commits],
        "ends": {history.names[history.good]: "good", history.names[history.bad]: "bad"},
        "trials": {sha: dataclasses.asdict(trial) for sha, trial in found.trials.items()},
    }
