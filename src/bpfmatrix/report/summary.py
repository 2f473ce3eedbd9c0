"""The job summary of GitHub Actions: a report in Markdown on the page of a CI job."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfmatrix.results.kernel_run import KernelRun
    from bpfmatrix.results.verification import Verification

__all__ = ["write"]


def write(runs: "Sequence[KernelRun | Verification]") -> None:
    """Append the report to the file that GITHUB_STEP_SUMMARY names; without it, do nothing.

    If the file can't be written, there is no summary, and the run goes on.
    """
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target or not runs:
        return
    from bpfmatrix.report import markdown  # noqa: PLC0415 - needed in CI only
    from bpfmatrix.report.matrix import Matrix  # noqa: PLC0415
    from bpfmatrix.report.model import Result  # noqa: PLC0415

    page = markdown.render(Matrix.of([Result(run) for run in runs]))
    with contextlib.suppress(OSError), Path(target).open("a", encoding="utf-8") as file:
        file.write(page + "\n")
