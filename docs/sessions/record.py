"""Records the sessions of this folder: `python docs/sessions/record.py [NAME...]`.

NAME.commands has what a user types, in blocks with a blank line between them; lines that begin with
`# ` are remarks. Each block is run by bash in a new folder, and NAME.txt gets the remarks, the
commands and what they printed. Nothing is cut out but paths of this machine. It runs on real
kernels, and so takes minutes.

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


def main(names: list[str]) -> None:
    """Record the named sessions, or all of them."""
    for name in names or sorted(path.stem for path in HERE.glob("*.commands")):
        text = (HERE / f"{name}.commands").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="session-") as folder:
            recorded = "\n".join(record(block, Path(folder)) for block in blocks(text))
        (HERE / f"{name}.txt").write_text(recorded, encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Return the blocks of a session: remarks, and commands of one or more lines."""
    return [block for block in text.strip().split("\n\n") if block]


def record(block: str, folder: Path) -> str:
    """Run a block in a folder; return it as a terminal would show it, with a newline at its end."""
    if block.startswith("# "):
        return f"{block}\n"
    first, *more = block.splitlines()
    typed = "\n".join([f"$ {first}", *(f"> {line}" for line in more)])
    program = str(Path(sys.executable).parent)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")},
        "EXAMPLES": str(EXAMPLES),
        "PATH": f"{program}:{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        ["bash", "-c", block],
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
    ended = [f"(exit status {done.returncode})"] if done.returncode else []
    return "\n".join([typed, *lines, *ended]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
