"""A run's report on the page of a CI job: GitHub shows what is appended to a file as Markdown."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfmatrix.results.kernel_run import KernelRun
    from bpfmatrix.results.verification import Verification

__all__ = ["write"]


def write(found: "Sequence[KernelRun | Verification]") -> None:
    """Append the report to the file that GITHUB_STEP_SUMMARY names; without it, do nothing.

    A summary that can't be written fails no run.
    """
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target or not found:
        return
    from bpfmatrix.report import markdown  # noqa: PLC0415 - only where it is asked for
    from bpfmatrix.report.model import Matrix, Result  # noqa: PLC0415

    page = markdown.render(Matrix.of([Result(one) for one in found]))
    with contextlib.suppress(OSError), Path(target).open("a", encoding="utf-8") as file:
        file.write(page + "\n")
