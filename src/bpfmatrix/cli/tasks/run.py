"""Tasks that run the tests: run, matrix, watch; and doctor, which says whether they can."""

from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from bpfmatrix.cli.options import complain, kernel_ids, options, with_available
from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.virtiofs.shares import parse_options as asked_files

__all__ = ["doctor", "matrix", "run", "watch"]


@bpfmatrix_task()
def doctor(c: Context) -> None:
    """Look at what this machine has: tools, accelerator, disk space, kernels."""
    from bpfmatrix.cli.doctor import checks  # noqa: PLC0415 - here and below: `invoke -l` stays fast
    from bpfmatrix.cli.listings import print_checks  # noqa: PLC0415

    if not print_checks(checks(Project.load())):
        raise Exit(code=1)


@bpfmatrix_task(iterable=["binary", "share"])
def run(
    c: Context,
    kernel: str = "",
    image: str = "",
    run: str | None = None,
    binary: Any = None,
    timeout: str | None = None,
    cold: bool = False,
    rootfs: str | None = None,
    share: Any = None,
    net: str | None = None,
    core: bool = False,
) -> None:
    """Load and test the eBPF on one kernel. Words behind -- go to the executables."""
    if bool(kernel) == bool(image):
        raise UsageError("name the kernel, either by --kernel or by --image")
    asked = options(
        *(run, binary or (), timeout, behind_dashes(), cold),
        files=asked_files(rootfs, share or ()),
        net=net,
        core=core,
    )
    project, id = Project.load(), kernel
    if image:
        from bpfmatrix.kernels.image_option import with_image  # noqa: PLC0415

        project, id = with_image(project, Path(image))
    _run_on(project, [id], asked)


@bpfmatrix_task(iterable=["binary", "share"])
def matrix(
    c: Context,
    kernels: str | None = None,
    available: bool = False,
    run: str | None = None,
    binary: Any = None,
    timeout: str | None = None,
    cold: bool = False,
    rootfs: str | None = None,
    share: Any = None,
    net: str | None = None,
    core: bool = False,
    jobs: int = 0,
) -> None:
    """Load and test the eBPF on many kernels, side by side, in one table."""
    project, default = Project.load(), None
    asked = options(
        *(run, binary or (), timeout, behind_dashes(), cold),
        files=asked_files(rootfs, share or ()),
        net=net,
        core=core,
    )
    if available:
        project, default = with_available(project, kernels)
    _run_on(project, kernel_ids(project.config, kernels, default), asked, jobs or None)


def _run_on(project: Project, ids: list[str], asked: RunOptions, jobs: int | None = None) -> None:
    from bpfmatrix.cli.run import run_tests  # noqa: PLC0415
    from bpfmatrix.results.kernel_run import exit_status  # noqa: PLC0415

    status = exit_status(run_tests(project, ids, asked, jobs))
    if status:
        raise Exit(code=status)


@bpfmatrix_task()
def watch(c: Context, kernel: str, run: str | None = None, timeout: str | None = None) -> None:
    """Load and test the eBPF on one kernel at each save of a file, until Ctrl-C."""
    from bpfmatrix.cli.suite_output import SuiteConsole  # noqa: PLC0415
    from bpfmatrix.suite.watch import watch as run_at_each_save  # noqa: PLC0415

    project, asked = Project.load(), options(run, (), timeout, behind_dashes())
    run_at_each_save(project, kernel, asked, lambda: SuiteConsole(project, [kernel]), complain)
