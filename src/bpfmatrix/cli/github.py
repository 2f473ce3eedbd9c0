"""Commands for GitHub Actions in a job's output: groups that fold, and annotations of errors.

Their format is in GitHub's documentation, "Workflow commands for GitHub Actions". None is printed
unless the environment has GITHUB_ACTIONS=true. An annotation may name a line of a source file: then
a pull request shows it there, among the changes.
"""

import os
from pathlib import Path

from rich.console import Console

from bpfmatrix.host.text import inert

__all__ = ["GithubLog"]


class GithubLog:
    """Writes groups and annotations into the log of a job. At most one group is open."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._grouped = False
        self.active = os.environ.get("GITHUB_ACTIONS") == "true"

    def begin_group(self, name: str) -> None:
        """Begin a group of lines, which GitHub shows folded."""
        if self.active:
            self._grouped = True
            self._command("group", " ".join(name.split()))

    def end_group(self) -> None:
        """End the group, if one is open."""
        if self._grouped:
            self._grouped = False
            self._command("endgroup", "")

    def annotate(self, error: str, source: str = "", folder: Path | None = None) -> None:
        """Add an error to the annotations of the workflow run.

        `source` is the line that it is about, as `file:line`. The file is relative to `folder`,
        which is the folder of kernels.yaml. A file outside of the repository is not named.
        """
        if self.active:
            self._command("error", error, _place(source, folder or Path()))

    def _command(self, name: str, data: str, properties: str = "") -> None:
        # Not by `print`, which lets no commands pass.
        self._console.file.write(f"::{name}{properties}::{_escaped(data)}\n")
        self._console.file.flush()


def _escaped(text: str) -> str:
    # A workflow command is one line. GitHub's runner decodes these three escape sequences.
    return inert(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _place(source: str, folder: Path) -> str:
    """Return the properties of an annotation for a line of a file; empty without one."""
    name, _, line = source.rpartition(":")
    if not name or not line.isdecimal():
        return ""
    # GitHub's paths are relative to the repository, whose checkout the variable names.
    workspace = os.environ.get("GITHUB_WORKSPACE", "")
    try:
        path = (folder / name).resolve().relative_to(Path(workspace).resolve())
    except ValueError:
        return ""
    # In a property, a colon and a comma have escape sequences of their own.
    file = _escaped(str(path)).replace(":", "%3A").replace(",", "%2C")
    return f" file={file},line={line}"
