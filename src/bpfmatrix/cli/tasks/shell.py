"""Tasks for a look into a guest: shell, and logs for one that is gone."""

import sys
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from bpfmatrix.cli.options import options
from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.virtiofs.shares import parse_options as asked_files

__all__ = ["logs", "shell"]


@bpfmatrix_task(iterable=["share"])
def shell(
    c: Context,
    kernel: str = "",
    image: str = "",
    cold: bool = False,
    rootfs: str | None = None,
    share: Any = None,
    net: str | None = None,
) -> None:
    """Open a shell on a kernel, or run the COMMAND behind -- there, as if it ran here."""
    from bpfmatrix.cli.shell import shell as attach  # noqa: PLC0415 - `invoke -l` stays fast

    if bool(kernel) == bool(image):
        raise UsageError("name the kernel, either by --kernel or by --image")
    asked = options(None, (), None, (), cold, files=asked_files(rootfs, share or ()), net=net)
    project, id = Project.load(), kernel
    if image:
        from bpfmatrix.kernels.image_option import with_image  # noqa: PLC0415

        project, id = with_image(project, Path(image))
    if status := attach(project, id, behind_dashes(), asked):
        raise Exit(code=status)


@bpfmatrix_task()
def logs(c: Context, kernel: str, test: str = "", follow: bool = False) -> None:
    """Print the console of a kernel's last run, or the output of one of its tests."""
    from bpfmatrix.cli.logs import show  # noqa: PLC0415

    show(Project.load(), kernel, test, sys.stdout.buffer, follow=follow)
