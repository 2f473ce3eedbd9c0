"""`nox -s fresh`: both commands of the README on machines that have nothing yet."""

import argparse
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import tools
from tests.fresh.machines import Finished, Workshop
from tests.tool import REPOSITORY

SUITES = ("bookworm", "trixie")
USERS = ("root", "sudo")
COMMANDS = {"first": "./bootstrap -s kernel-6.1", "tests": "./bootstrap -s tests"}
LOGS = REPOSITORY / ".bpfmatrix/fresh"
# Of each root that is in use, and of the pristine ones, as measured.
_FREE_BYTES = 12 << 30
_TAIL_LINES = 40
# pytest's last line: "= 3 failed, 1718 passed in 702.11s =".
_SUMMARY = re.compile(r"(\d+ (?:passed|failed|error).*?) in [\d.]+s")


@dataclass(frozen=True)
class Case:
    """A release, and who runs which of the commands there."""

    suite: str
    user: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.suite}, {self.user}"


@dataclass(frozen=True)
class Result:
    """What came of one command."""

    case: Case
    command: str
    passed: bool
    seconds: float
    verdict: str
    detail: str = ""


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read what was asked for."""
    parser = argparse.ArgumentParser(
        prog="nox -s fresh --",
        description="Run the README's two commands on machines that have nothing yet: minimal "
        "roots of Debian, made by debootstrap. All of it takes more than an hour.",
    )
    only = "only this; may be given again (default: all)"
    parser.add_argument("--suite", choices=SUITES, action="append", help=only)
    parser.add_argument("--user", choices=USERS, action="append", help=only)
    parser.add_argument("--command", choices=tuple(COMMANDS), action="append", help=only)
    parser.add_argument(
        "--limit", type=float, default=60, metavar="MINUTES", help="for a command (default: 60)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(os.environ.get("TMPDIR", "/var/tmp")),
        help="where the temporary folder is made (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="leave the machines there")
    return parser.parse_args(words)


def cases(asked: argparse.Namespace) -> list[Case]:
    """Return the machines to make, and what runs on each."""
    commands = tuple(name for name in COMMANDS if name in (asked.command or COMMANDS))
    return [
        Case(suite, user, commands)
        for suite in SUITES
        for user in USERS
        if suite in (asked.suite or SUITES) and user in (asked.user or USERS)
    ]


def hindrance(folder: Path) -> str:
    """Say why this can't be done here; empty if it can."""
    if os.geteuid() != 0:
        return "nox -s fresh needs root: it makes root folders of Debian and mounts in them. Run "
        "it as root, or by sudo."
    if tools.find("debootstrap") is None:
        return (
            "debootstrap is not installed. Run apt-get install debootstrap, or start this as "
            "./bootstrap -s fresh."
        )
    if shutil.disk_usage(folder).free < _FREE_BYTES:
        return f"{folder} has less than {_FREE_BYTES >> 30} GiB free. Name another one: --folder."
    return ""


def try_case(
    case: Case, workshop: Workshop, console: Console, asked: argparse.Namespace
) -> Iterator[Result]:
    """Make a machine, run the commands there in turn, and remove it."""
    started = time.monotonic()
    console.print(f"{case}: making the machine")
    try:
        machine = workshop.machine(case.suite, case.user)
    except BpfmatrixError as error:
        console.print(f"    error: {error}")
        yield Result(case, "", False, time.monotonic() - started, "no machine")
        return
    console.print(f"    done after {time.monotonic() - started:.0f} s")
    for name in case.commands:
        console.print(f"{case}: {COMMANDS[name]}")
        log = LOGS / f"{case.suite}-{case.user}-{name}.log"
        log.unlink(missing_ok=True)
        result = judge(
            case, name, machine.run(shlex.split(COMMANDS[name]), log, asked.limit * 60), log
        )
        if not result.passed:
            lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            console.print(*(f"    {line}" for line in lines), sep="\n")
        console.print(f"    {result.verdict} after {result.seconds:.0f} s  {result.detail}")
        yield result
    if asked.keep:
        words = machine.command(["bash"], "root", machine.checkout)
        console.print(f"    kept; a shell there: {shlex.join(words)}")
    else:
        workshop.remove(machine)


def judge(case: Case, command: str, done: Finished, log: Path) -> Result:
    """Say what came of a command, with the counts of pytest where it came to that."""
    passed = done.status == 0
    verdict = "passed" if passed else f"failed ({done.status})"
    if done.status is None:
        verdict = "took too long"
    counts = _SUMMARY.findall(log.read_text(errors="replace"))
    return Result(case, command, passed, done.seconds, verdict, counts[-1] if counts else "")


def print_table(console: Console, results: Sequence[Result]) -> None:
    """Print one line for each command that was run."""
    table = Table("release", "user", "command", "result", "time", "tests", box=None)
    for each in results:
        command = COMMANDS.get(each.command, "")
        case, took = each.case, f"{each.seconds:.0f} s"
        table.add_row(case.suite, case.user, command, each.verdict, took, each.detail)
    console.print(table)
    console.print(f"logs: {LOGS}")


def main(words: Sequence[str]) -> int:
    """Try all cases that were asked for; returns the exit status."""
    asked = arguments(words)
    # No colours: what is printed here goes into a note as it is.
    console = Console(highlight=False, soft_wrap=True, markup=False, no_color=True)
    if why := hindrance(asked.folder):
        console.print(f"error: {why}")
        return 1
    # So that the temporary folder is removed then, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    LOGS.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    folder = Path(tempfile.mkdtemp(prefix="bpfmatrix-fresh-", dir=asked.folder))
    try:
        folder.chmod(0o755)  # a user has to come through
        workshop = Workshop(folder, LOGS)
        for case in cases(asked):
            results += try_case(case, workshop, console, asked)
    except KeyboardInterrupt:
        console.print("interrupted")
    finally:
        if not asked.keep:
            shutil.rmtree(folder)
    print_table(console, results)
    tried = {result.case for result in results}
    return 0 if tried == {*cases(asked)} and all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
