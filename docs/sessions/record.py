"""Records the sessions of this folder: `python docs/sessions/record.py [NAME...]`.

NAME.commands has what a user types, in blocks with a blank line between them; lines that begin with
`# ` are remarks. Each block is run by bash in a new folder, and NAME.txt gets the remarks, the
commands and what they printed. Nothing is cut out but paths of this machine. It runs on real
kernels, and so takes minutes.

A block that is to fail ends in the line `(exit status N)`. Another status, or a variable that is
not set, ends the recording, and NAME.txt stays as it was.

The session of kernel-person needs KERNEL_DEB in its environment, the path of a kernel's package
(`apt-get download linux-image-...`). It fetches 420 MB if the cache lacks the debug information of
Debian's 6.1.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
# Escape sequences of terminals, if a program writes some into a pipe.
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STATUS = re.compile(r"\(exit status (\d+)\)")
# What bash says of a variable that is not set (set -u).
_UNSET = re.compile(r"(environment|bash): (line \d+: )?\w+: unbound variable")


class UnexpectedStatusError(Exception):
    """A command ended with another status than its block says."""


def main(names: list[str]) -> None:
    """Record the named sessions, or all of them."""
    for name in names or sorted(path.stem for path in HERE.glob("*.commands")):
        text = (HERE / f"{name}.commands").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="session-") as folder:
            try:
                recorded = "\n".join(record(block, Path(folder)) for block in blocks(text))
            except UnexpectedStatusError as error:
                raise SystemExit(f"{name} is not recorded: {error}") from error
        (HERE / f"{name}.txt").write_text(recorded, encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Return the blocks of a session: remarks, and commands of one or more lines."""
    return [block for block in text.strip().split("\n\n") if block]


def record(block: str, folder: Path) -> str:
    """Run a block in a folder; return it as a terminal would show it, with a newline at its end.

    UnexpectedStatusError if a command fails, unless the block ends in its status.
    """
    command, expected = parts(block)
    if block.startswith("# "):
        return f"{block}\n"
    program = str(Path(sys.executable).parent)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")},
        "EXAMPLES": str(EXAMPLES),
        "PATH": f"{program}:{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = _ESCAPES.sub("", done.stdout).replace(str(folder), "~/project")
    said = said.replace(str(Path.home()), "~").replace(str(EXAMPLES), "$EXAMPLES")
    lines = [line.rstrip() for line in said.splitlines()]
    # A subshell with such a variable ends alone, and what called it may still end with 0.
    is_unset = any(_UNSET.fullmatch(line) for line in lines)
    if done.returncode != expected or is_unset:
        raise UnexpectedStatusError(
            f"exit status {done.returncode} of: {command}\n{done.stdout}".rstrip()
        )
    ended = [f"(exit status {expected})"] if expected else []
    return "\n".join([typed(command), *lines, *ended]) + "\n"


def parts(block: str) -> tuple[str, int]:
    """Return the command of a block, and the status that it is to end with."""
    command, _, last = block.rpartition("\n")
    if match := _STATUS.fullmatch(last):
        return command, int(match[1])
    return block, 0


def typed(command: str) -> str:
    """Return the lines of a command as a shell shows them when they are typed."""
    first, *more = command.splitlines()
    return "\n".join([f"$ {first}", *(f"> {line}" for line in more)])


if __name__ == "__main__":
    main(sys.argv[1:])
