"""What Go's runtime and its race detector print of goroutines: why a program died, and where.

`death` reads the last words of a program; `data_race` a report of `-race`. Of each stack, the first
line of the project's own code is what a reader wants: neither Go's standard library nor a module
that it depends on.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bpfmatrix.suite.formats.base import one_line

__all__ = ["DEATH", "GOROUTINE", "Death", "Frame", "Goroutine", "data_race", "death", "place"]

# What the runtime prints first when a program dies (runtime/panic.go, printpanics and fatalthrow;
# runtime/signal_unix.go, dieFromSignal and sighandler).
DEATH = re.compile(r"(panic|fatal error): |SIG[A-Z]+: ")
_RECOVERED = re.compile(r" \[recovered(, repanicked)?\]$")
# `goroutine 7 [running]:`, or `goroutine 0 gp=0x55 m=0 mp=0x55 [idle, locked to thread]:`.
GOROUTINE = re.compile(r"goroutine \d+ .*\[.*\]:$")
_FILE = re.compile(r"\s+(/?\S.*?):(\d+)(?: \+0x[0-9a-f]+)?(?: fp=0x.*)?$")
_CREATED_BY = "created by "
_ACCESS = re.compile(r"((?:Previous )?(?:atomic )?(?:read|write))\b.* by ", re.IGNORECASE)
# The first elements of the import paths of Go's standard library, which have no dot.
_STANDARD = re.compile(
    "archive|bufio|bytes|cmp|compress|container|context|crypto|database|debug|embed|encoding|errors"
    "|expvar|flag|fmt|go|hash|html|image|index|internal|io|iter|log|maps|math|mime|net|os|path"
    "|plugin|reflect|regexp|runtime|slices|sort|strconv|strings|structs|sync|syscall|testing|text"
    "|time|unicode|unique|unsafe|vendor|weak|main"
)
# A module that was downloaded: its folder has a version. Or one that a project has copied.
_DEPENDENCY = re.compile(r"@v\d|/vendor/")


@dataclass(frozen=True)
class Frame:
    """A call of a stack."""

    function: str
    """With its import path, such as `example.org/m/p.TestX.func1`."""
    file: str
    line: int

    @property
    def is_standard(self) -> bool:
        """Whether it is of Go's standard library, or of what `go test` generates."""
        folder, slash, name = self.function.rpartition("/")
        package = f"{folder}{slash}{name.partition('.')[0]}"
        return "." not in name or bool(_STANDARD.fullmatch(package.partition("/")[0]))

    @property
    def is_own(self) -> bool:
        """Whether it is of the project's own code."""
        return not self.is_standard and not _DEPENDENCY.search(self.file)


@dataclass(frozen=True)
class Goroutine:
    """The stack of a goroutine, the innermost call first."""

    frames: tuple[Frame, ...]
    created_by: str = ""
    """The function that started it."""

    @property
    def own(self) -> Frame | None:
        """The innermost call of the project's own code, or else of a dependency."""
        own = [frame for frame in self.frames if frame.is_own]
        others = [frame for frame in self.frames if not frame.is_standard]
        return next(iter(own or others), None)

    def is_of(self, test: str) -> bool:
        """Whether the function of a test, or one within it, is what the goroutine runs."""
        wanted = re.compile(rf"\.{re.escape(test.partition('/')[0])}(\.|$)")
        return any(wanted.search(frame.function) for frame in self.frames)

    @property
    def waits_for_subtests(self) -> bool:
        """Whether it is a test that waits until its subtests have ended."""
        return any(frame.function == "testing.(*T).Run" for frame in self.frames)


@dataclass(frozen=True)
class Death:
    """Why a program died: the message of its runtime, and the stacks of its goroutines."""

    message: str
    goroutines: tuple[Goroutine, ...]

    @property
    def names_culprit(self) -> bool:
        """Whether the first goroutine is the one that died, and not one of many that hung."""
        hung = ("panic: test timed out", "SIG", "fatal error: all goroutines are asleep")
        return not self.message.startswith(hung)

    def frame(self, test: str = "") -> Frame | None:
        """Return the line of the project's own code at which it died, or at which a test hung."""
        if self.names_culprit:
            return self.goroutines[0].own if self.goroutines else None
        tests = [one for one in self.goroutines if one.is_of(test)] if test else []
        for goroutine in sorted(tests, key=lambda one: one.waits_for_subtests):
            if own := goroutine.own:
                return own
        return None

    def reason(self, folder: Path | None, test: str = "") -> str:
        """Return it in one line, with the place where it happened or where a test hung."""
        found = self.frame(test)
        return f"{self.message} ({place(found, folder)})" if found else self.message


def death(output: str) -> Death | None:
    """Return what a program died of by the end of its output; None if nothing says it.

    Words that begin like a panic are one only if stacks follow.
    """
    lines = output.splitlines()
    stacks = next((n for n, line in enumerate(lines) if GOROUTINE.match(line)), None)
    if stacks is None:
        return None
    starts = [n for n in range(stacks) if DEATH.match(lines[n])]
    if not starts:
        return None
    head = lines[starts[-1] : stacks]
    return Death(_message(head), tuple(_goroutines(lines[stacks:])))


def _message(head: Sequence[str]) -> str:
    """Return the message in one line: the text of a panic may have several."""
    first = _RECOVERED.sub("", head[0].rstrip())
    if first.startswith(("fatal error: ", "SIG")):
        return first
    kept = [first]
    for line in head[1:]:
        # Behind the text there are the signal, and the panics of deferred functions.
        if not line.strip() or line.startswith(("[signal ", "\tpanic: ")):
            break
        kept.append(_RECOVERED.sub("", line.rstrip()))
    if first.startswith("panic: test timed out"):
        return first  # the tests that ran are in their own results
    return one_line(kept)


def _goroutines(lines: Sequence[str]) -> list[Goroutine]:
    found: list[Goroutine] = []
    frames: list[Frame] = []
    function = created_by = ""
    for line in [*lines, "goroutine 0 [end]:"]:
        if GOROUTINE.match(line):
            if frames:
                found.append(Goroutine(tuple(frames), created_by))
            frames, function, created_by = [], "", ""
        elif function and (match := _FILE.match(line)):
            if function.startswith(_CREATED_BY):
                created_by = function.removeprefix(_CREATED_BY).partition(" in goroutine ")[0]
            else:
                frames.append(Frame(_without_arguments(function), match[1], int(match[2][:9])))
            function = ""
        else:
            function = line.strip()
    return found


def _without_arguments(call: str) -> str:
    return call[: call.rfind("(")] if call.endswith(")") else call


def data_race(output: str, folder: Path | None) -> str:
    """Return the first report of the race detector in one line, or `""` if there is none."""
    _, found, report = output.partition("WARNING: DATA RACE\n")
    if not found:
        return ""
    report = report.partition("==================")[0]
    sides = []
    for block in report.split("\n\n"):
        head, _, stack = block.partition("\n")
        if access := _ACCESS.match(head):
            frames = _goroutines(stack.splitlines())
            own = frames[0].own if frames else None
            where = f" at {place(own, folder)}" if own else ""
            sides.append(f"{access[1].lower()}{where}")
    return f"data race: {', '.join(sides)}" if sides else "data race"


def place(frame: Frame, folder: Path | None) -> str:
    """Return the file and the line of a call, as seen from a package's folder."""
    path = PurePosixPath(frame.file)
    if folder is not None and path.is_relative_to(folder):
        shown = path.relative_to(folder)
    elif frame.file.endswith("_test.go"):
        shown = PurePosixPath(path.name)  # of the package itself
    else:
        shown = PurePosixPath(*path.parts[-2:])
    return f"{shown}:{frame.line}"
