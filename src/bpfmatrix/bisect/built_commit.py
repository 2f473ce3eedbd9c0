"""A trial of a bisection of commits: the kernel is built from a source tree, and then tried."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from bpfmatrix.bisect.commits import Commit
from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.config.models import KernelEntry
from bpfmatrix.config.project import Project
from bpfmatrix.config.sources import BuildSource
from bpfmatrix.errors import BpfmatrixError, KernelBuildError
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.build import build, result

__all__ = ["of_built_commits", "requested_options", "with_built_kernel"]


def with_built_kernel(project: Project, name: str) -> Project:
    """Return the project with a kernel of this id: the one that was built last under this name."""
    file = project.root / "ci-kernels" / name / "vmlinuz"
    entry = KernelEntry.model_validate({"source": {"directory": file}})
    entry._exact = True
    kernels = {**project.config.kernels, name: entry}
    config = project.config.model_copy(update={"kernels": kernels})
    return dataclasses.replace(project, config=config)


def requested_options(project: Project) -> str:
    """Return what the fragments of `ci-kernels` ask of each kernel."""
    source = BuildSource(version="any")
    return result.requested_options(source, project.config.defaults.arch, project.root).text


def of_built_commits(
    project: Project,
    name: str,
    tree: Path,
    try_kernel: Callable[[str], Trial],
    progress: Progress,
) -> Callable[[Commit], Trial]:
    """Return the function that builds the source tree as `ci-kernels/<name>`, and tries that.

    `project` is that of `with_built_kernel`. A tree that does not build gives no answer. The
    function raises BpfmatrixError for what the host or the payload is to blame for, as an answer
    about the commit would be kept.
    """
    source = BuildSource.model_validate({"version": name, "from": str(tree)})
    arch = project.config.defaults.arch

    def try_commit(commit: Commit) -> Trial:
        def show(text: str, fraction: float | None = None) -> None:
            progress(f"{commit.short} {text}", fraction)

        try:
            build(source, arch, project.root, project.cache, show)
        except KernelBuildError as error:
            return Trial(Answer.UNKNOWN, f"does not build: {' '.join(error.what.split())}")
        show("booting")
        trial = try_kernel(name)
        if trial.is_fault:
            raise BpfmatrixError(
                f"{commit.short} is built, and could not be tried: {trial.reason}",
                "When that is fixed, the same command goes on from there.",
            )
        return trial

    return try_commit
