"""`nox -s fresh`: the README's two commands on machines without any of the programs they need."""

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
# As measured: a root in use, and the pristine roots.
_FREE_BYTES = 12 << 30
_TAIL_LINES = 40
# pytest's last line: "= 3 failed, 1718 passed in 702.11s =".
_SUMMARY = re.compile(r"(\d+ (?:passed|failed|error).*?) in [\d.]+s")


@dataclass(frozen=True)
class Case:
    """A release, a user, and the commands that the user runs there."""

    suite: str
    user: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.suite}, {self.user}"


@dataclass(frozen=True)
class Result:
    """The result of one command."""

    case: Case
    command: str
    passed: bool
    seconds: float
    verdict: str
    detail: str = ""


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s fresh --",
        description="Run the README's two commands on machines that have nothing yet: minimal "
        "roots of Debian, made by debootstrap. All of it takes more than an hour.",
    )
    only = "only this one; may be repeated (default: all)"
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


def cases(options: argparse.Namespace) -> list[Case]:
    """Return the machines to make, and what runs on each."""
    commands = tuple(name for name in COMMANDS if name in (options.command or COMMANDS))
    return [
        Case(suite, user, commands)
        for suite in SUITES
        for user in USERS
        if suite in (options.suite or SUITES) and user in (options.user or USERS)
    ]


def obstacle(folder: Path) -> str:
    """Return why machines can't be made here; empty if they can."""
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
    case: Case, workshop: Workshop, console: Console, options: argparse.Namespace
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
            case, name, machine.run(shlex.split(COMMANDS[name]), log, options.limit * 60), log
        )
        if not result.passed:
            lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            console.print(*(f"    {line}" for line in lines), sep="\n")
        console.print(f"    {result.verdict} after {result.seconds:.0f} s  {result.detail}")
        yield result
    if options.keep:
        words = machine.command(["bash"], "root", machine.checkout)
        console.print(f"    kept; a shell there: {shlex.join(words)}")
    else:
        workshop.remove(machine)


def judge(case: Case, command: str, done: Finished, log: Path) -> Result:
    """Return the result of a command, with the counts of pytest if pytest ran."""
    passed = done.status == 0
    verdict = "passed" if passed else f"failed ({done.status})"
    if done.status is None:
        verdict = "took too long"
    counts = _SUMMARY.findall(log.read_text(errors="replace"))
    return Result(case, command, passed, done.seconds, verdict, counts[-1] if counts else "")


def print_table(console: Console, results: Sequence[Result]) -> None:
    """Print a line for each command."""
    table = Table("release", "user", "command", "result", "time", "tests", box=None)
    for each in results:
        command = COMMANDS.get(each.command, "")
        case, took = each.case, f"{each.seconds:.0f} s"
        table.add_row(case.suite, case.user, command, each.verdict, took, each.detail)
    console.print(table)
    console.print(f"logs: {LOGS}")


def main(words: Sequence[str]) -> int:
    """Run the chosen cases; return the exit status."""
    options = arguments(words)
    # Without colours, so that the output can be pasted into a note.
    console = Console(highlight=False, soft_wrap=True, markup=False, no_color=True)
    if why := obstacle(options.folder):
        console.print(f"error: {why}")
        return 1
    # An exception, so that the temporary folder is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    LOGS.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    folder = Path(tempfile.mkdtemp(prefix="bpfmatrix-fresh-", dir=options.folder))
    try:
        folder.chmod(0o755)  # so that the user `sudo` can enter it
        workshop = Workshop(folder, LOGS)
        for case in cases(options):
            results += try_case(case, workshop, console, options)
    except KeyboardInterrupt:
        console.print("interrupted")
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    print_table(console, results)
    tried = {result.case for result in results}
    return 0 if tried == {*cases(options)} and all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
