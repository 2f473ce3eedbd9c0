"""What a verification is compared with, and where it is saved for that: a file, or a baseline."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.cli.console import say
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host.front_end import command
from bpfmatrix.results import files
from bpfmatrix.results.verification import Verification
from bpfmatrix.verify.baseline import BaselineName, Baselines

__all__ = ["Base", "read_base", "read_results", "save"]


@dataclass(frozen=True)
class Base:
    """Results to compare with."""

    title: str
    """What they are called, such as the file's name."""
    verifications: list[Verification]


def read_base(project: Project, place: Path | BaselineName) -> Base | None:
    """Return the results that `--against` names.

    None, after a message, if the branch has no baseline: the first pull request has none to be
    compared with, and that is no fault of it. UsageError for a file that can't be read.
    """
    if isinstance(place, Path):
        return Base(str(place), read_results(place, "--against"))
    baselines = _baselines(project)
    branches = [place.branch] if place.branch else baselines.base_branches
    found = baselines.find(branches)
    if found is None:
        typed = command("verify --save baseline --push")
        say(f"{branches[-1]} has no baseline yet; on that branch, make one: {typed}", stderr=True)
        return None
    return Base(found.title, found.verifications)


def read_results(path: Path, option: str) -> list[Verification]:
    """Read a file of results, or all of those in a folder; UsageError if that is not possible."""
    try:
        if not path.is_dir():
            return files.read_saved(path)
        return [one for file in sorted(path.glob("*.json")) for one in files.read_saved(file)]
    except OSError as error:
        raise UsageError(
            f"{option} {path}: {error.strerror or error}", "Write it with --save first."
        ) from error
    except ValueError as error:
        raise UsageError(f"{option} {path}: {error}", "Write it with --save.") from error


def save(
    project: Project, found: Sequence[Verification], place: Path | BaselineName, push: bool
) -> None:
    """Write results into a file, or keep them as a baseline, and push that if `push` says so."""
    if isinstance(place, Path):
        try:
            files.save(found, place)
        except OSError as error:
            raise BpfmatrixError(f"--save {place}: {error.strerror or error}") from error
        return
    baselines = _baselines(project)
    branch = place.branch or baselines.own_branch
    title = baselines.save(found, branch)
    where = f", and on {baselines.push(branch)}" if push else ""
    say(f"kept as {title}{where}", stderr=True)


def _baselines(project: Project) -> Baselines:
    return Baselines(project.root, os.environ, lambda text: say(text, stderr=True))
