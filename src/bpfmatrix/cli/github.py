"""Commands for GitHub Actions in a job's output: groups that fold, and annotations of errors.

Their format is in GitHub's documentation, "Workflow commands for GitHub Actions". None is printed
unless the environment has GITHUB_ACTIONS=true.
"""

import os

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

    def annotate(self, error: str) -> None:
        """Add an error to the annotations of the workflow run."""
        if self.active:
            self._command("error", error)

    def _command(self, name: str, data: str) -> None:
        # A workflow command is one line. GitHub's runner decodes these three escape sequences.
        text = inert(data).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        # Not by `print`, which lets no commands pass.
        self._console.file.write(f"::{name}::{text}\n")
        self._console.file.flush()
