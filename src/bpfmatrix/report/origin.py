"""The origin of a report: the project, and the state of its repository when the report is made."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bpfmatrix.config.project import Project
from bpfmatrix.host.git import Git

__all__ = ["Origin"]

# CI checks out a commit without its branch, whose name is in one of these: GitHub's for pull
# requests and for others, GitLab's likewise.
_BRANCH_VARIABLES = (
    "GITHUB_HEAD_REF",
    "GITHUB_REF_NAME",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
    "CI_COMMIT_REF_NAME",
)


@dataclass(frozen=True)
class Origin:
    """Where a report comes from. What is not known is empty."""

    project: str = ""
    branch: str = ""
    commit: str = ""
    """The first characters of the commit; `+changes` follows if tracked files were changed."""
    declared: frozenset[str] = frozenset()
    """The ids of kernels that kernels.yaml declares, among those of the results."""

    @classmethod
    def of(cls, project: Project, kernels: Iterable[str] = ()) -> "Origin":
        """Return the origin of a report of a project, with results of the kernels of these ids."""
        branch, commit = _repository(project, os.environ)
        declared = frozenset(id for id in kernels if project.config.has(id))
        return cls(project.root.name, branch, commit, declared)

    @property
    def title(self) -> str:
        """The project, the branch and the commit, such as `agent, main at 1a2b3c4d`."""
        where = " at ".join(filter(None, (self.branch, self.commit)))
        return ", ".join(filter(None, (self.project or "bpfmatrix", where)))


def _repository(project: Project, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the branch and the commit; nothing outside of git, or without a commit."""
    git = Git(project.root)
    commit = git.line("rev-parse", "--short=8", "HEAD")
    if not commit:
        return "", ""
    branch = git.line("branch", "--show-current") or next(
        (name for key in _BRANCH_VARIABLES if (name := environment.get(key))), ""
    )
    changed = git.line("status", "--porcelain", "--untracked-files=no")
    return branch, f"{commit}+changes" if changed else commit
