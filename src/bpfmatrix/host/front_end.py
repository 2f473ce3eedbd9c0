"""The front ends: nox, invoke and the program `bpfmatrix`. Messages name commands by `command`.

A message that names a command must name one that works as it stands. A user of the program alone
has no noxfile.py and no tasks.py, and can type neither `nox -s matrix` nor `invoke doctor`.
"""

import enum
import functools
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path, PurePath

__all__ = ["FrontEnd", "command", "command_form", "form", "front_end", "has_sessions", "has_tasks"]


class FrontEnd(enum.Enum):
    """What a user types to start a command of bpfmatrix."""

    NOX = enum.auto()
    INVOKE = enum.auto()
    BPFMATRIX = enum.auto()


# The tasks that are sessions of nox, too. A session of one kernel has the kernel's id in its name.
_ONE_KERNEL = re.compile(r"run --kernel (\S+)(.*)", re.DOTALL)
_SESSION = re.compile(r"(matrix|pre-push)(?: (.*))?", re.DOTALL)


def front_end(started: str) -> FrontEnd:
    """Return the front end of a process whose `sys.argv[0]` is `started`; usually that is a path.

    Of another process, such as a test runner that has imported bpfmatrix, it is invoke.
    """
    path = PurePath(started)
    # `python -m nox` is started by the path of the package's __main__.py.
    name = path.parent.name if path.name == "__main__.py" else path.stem
    if name == "nox":
        return FrontEnd.NOX
    # Processes that `bpfmatrix exec` starts are modules of this package.
    is_ours = path.suffix == ".py" and Path(__file__).parent.parent in Path(started).parents
    return FrontEnd.BPFMATRIX if name == "bpfmatrix" or is_ours else FrontEnd.INVOKE


def command(words: str) -> str:
    """Return a command as the user of this process can type it, in the project where it runs.

    `words` are a task and its options, quoted for a shell, such as `run --kernel 6.1 --cold`. Under
    nox that is `nox -s kernel-6.1 -- --cold`.
    """
    return command_form()(words)


def command_form() -> Callable[[str], str]:
    """Return a function that does what `command` does, for many commands.

    It looks for tasks.py and the program only once.
    """
    found = front_end(sys.argv[0])
    program = _program(sys.argv[0]) if found is FrontEnd.BPFMATRIX else "bpfmatrix"
    with_tasks = has_tasks(Path.cwd())
    return functools.partial(form, found=found, with_tasks=with_tasks, program=program)


def form(words: str, found: FrontEnd, *, with_tasks: bool, program: str = "bpfmatrix") -> str:
    """Return a command in the form of a front end; see `command`.

    `with_tasks` says whether invoke knows the tasks. Where it does not, `program` takes its place.
    """
    if found is FrontEnd.NOX:
        if match := _ONE_KERNEL.fullmatch(words):
            return _session(f"kernel-{match[1]}", match[2].strip())
        if match := _SESSION.fullmatch(words):
            return _session(match[1], match[2] or "")
    if found is FrontEnd.BPFMATRIX or (found is FrontEnd.NOX and not with_tasks):
        return f"{program} {words}"
    return f"invoke {words}"


def _session(name: str, words: str) -> str:
    return f"nox -s {name} -- {words}" if words else f"nox -s {name}"


def has_tasks(folder: Path) -> bool:
    """Whether invoke, started in `folder`, finds a tasks.py that takes its tasks from bpfmatrix."""
    above = (folder, *folder.parents)
    found = next((each / "tasks.py" for each in above if (each / "tasks.py").exists()), None)
    return found is not None and _names_bpfmatrix(found)


def has_sessions(root: Path) -> bool:
    """Whether a project has a noxfile.py that takes its sessions from bpfmatrix."""
    return _names_bpfmatrix(root / "noxfile.py")


def _names_bpfmatrix(file: Path) -> bool:
    try:
        return "bpfmatrix" in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _program(started: str) -> str:
    """Return what starts this program again: its name, if the shell finds this very file by it."""
    path = Path(started)
    if path.suffix == ".py":  # python -m bpfmatrix, or a process that `bpfmatrix exec` started
        python = Path(sys.executable)
        found = shutil.which(python.name)
        is_same = found is not None and Path(found) == python
        return f"{python.name if is_same else shlex.quote(str(python))} -m bpfmatrix"
    found = shutil.which(path.name)
    is_same = found is not None and Path(found).absolute() == path.absolute()
    return path.name if is_same else shlex.quote(started)
