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
from bpfmatrix.results.checked import read_saved
from bpfmatrix.results.verification import Verification
from bpfmatrix.verify.baseline import BaselineName, Baselines

__all__ = ["Base", "place_to_save", "read_base", "read_results", "save"]


@dataclass(frozen=True)
class Base:
    """Results to compare with."""

    title: str
    """What they are called, such as the file's name."""
    verifications: list[Verification]


def read_base(project: Project, place: Path | BaselineName, kernels: Sequence[str]) -> Base | None:
    """Return the results that `--against` names, of all kernels that are known for these.

    None, after a message, if there is no baseline: the first pull request has none to be compared
    with, and that is no fault of it. UsageError for a file that can't be read.
    """
    if isinstance(place, Path):
        return Base(str(place), read_results(place, "--against"))
    found = _baselines(project).find(kernels, place.revision)
    if found is None:
        typed = command("verify --save baseline --push")
        say(f"there is no baseline yet; on the main branch, make one: {typed}", stderr=True)
        return None
    return Base(found.title, found.verifications)


def read_results(path: Path, option: str) -> list[Verification]:
    """Read a file of results, or all of those in a folder; UsageError if that is not possible."""
    try:
        if not path.is_dir():
            return read_saved(path)
        return [one for file in sorted(path.glob("*.json")) for one in read_saved(file)]
    except OSError as error:
        raise UsageError(
            f"{option} {path}: {error.strerror or error}", "Write it with --save first."
        ) from error
    except ValueError as error:
        raise UsageError(f"{option} {path}: {error}", "Write it with --save.") from error


def place_to_save(
    project: Project, place: Path | BaselineName | None, push: bool
) -> Path | Baselines | None:
    """Return where results will be saved; UsageError, before a kernel boots, if they can't be."""
    if not isinstance(place, BaselineName):
        return place
    if place.revision:
        raise UsageError(
            f"--save baseline:{place.revision}: it is kept for what is checked out",
            "Leave the revision out: --save baseline",
        )
    baselines = _baselines(project)
    if push:
        baselines.require_remote()
    return baselines


def save(found: Sequence[Verification], place: Path | Baselines, push: bool) -> None:
    """Write results into a file, or keep them as a baseline, and push that if `push` says so."""
    if isinstance(place, Path):
        try:
            files.save(found, place)
        except OSError as error:
            raise BpfmatrixError(f"--save {place}: {error.strerror or error}") from error
        return
    title = place.save(found)
    where = f", and on {place.push()}" if push else ""
    say(f"kept as {title}{where}", stderr=True)


def _baselines(project: Project) -> Baselines:
    return Baselines(project.root, os.environ, lambda text: say(text, stderr=True))
