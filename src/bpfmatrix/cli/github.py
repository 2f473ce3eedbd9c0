"""What GitHub Actions makes of a job's output: groups that fold, and errors beside the workflow.

The format is that of GitHub's "Workflow commands"; without GITHUB_ACTIONS in the environment,
nothing of it is printed.
"""

import os

from rich.console import Console

__all__ = ["GithubLog"]


class GithubLog:
    """Groups and annotations in the log of a job; at most one group is open."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._grouped = False
        self.active = os.environ.get("GITHUB_ACTIONS") == "true"

    def begin_group(self, name: str) -> None:
        """Begin a group of lines, which the page shows folded."""
        if self.active:
            self._grouped = True
            self._console.print(f"::group::{name}", markup=False)

    def end_group(self) -> None:
        """End the group, if one is open."""
        if self._grouped:
            self._grouped = False
            self._console.print("::endgroup::", markup=False)

    def annotate(self, error: str) -> None:
        """Show an error beside the workflow."""
        if self.active:
            # A workflow command is one line; GitHub's runner decodes these three escapes.
            text = error.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
            self._console.print(f"::error::{text}", markup=False)
