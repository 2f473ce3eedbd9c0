"""Tasks that look inside a guest: debug."""

import shlex
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from bpfmatrix.cli.options import options
from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.virtiofs.shares import parse_options as files

__all__ = ["debug"]


@bpfmatrix_task(iterable=["binary", "break_", "share"])
def debug(
    c: Context,
    kernel: str = "",
    image: str = "",
    run: str | None = None,
    break_: Any = None,
    binary: Any = None,
    batch: str | None = None,
    gdb_args: str = "",
    attach_later: bool = False,
    port: int = 0,
    json_port: bool = False,
    vmlinux: str = "",
    source: str = "",
    names: bool = False,
    rootfs: str | None = None,
    share: Any = None,
    net: str | None = None,
    vscode: bool = False,
) -> None:
    """Run the tests of one kernel under gdb, which stops in the verifier."""
    from bpfmatrix.cli.debug import debug as run_in_gdb  # noqa: PLC0415 - `invoke -l` stays fast
    from bpfmatrix.debug.options import DebugOptions  # noqa: PLC0415

    if bool(kernel) == bool(image):
        raise UsageError("name the kernel, either by --kernel or by --image")
    if vscode and image:
        raise UsageError("--vscode is for a kernel of kernels.yaml", "Give it an entry there.")
    tests = options(
        *(run, binary or (), None, behind_dashes()), files=files(rootfs, share or ()), net=net
    )
    commands = None if batch is None else tuple(filter(None, map(str.strip, batch.split(";"))))
    asked = DebugOptions(
        breakpoints=tuple(break_ or ()),
        batch=commands,
        gdb_args=tuple(shlex.split(gdb_args)),
        attach_later=attach_later or json_port,
        port=port,
        json_port=json_port,
        vmlinux=Path(vmlinux) if vmlinux else None,
        source=Path(source) if source else None,
        names=names,
        vscode=vscode,
    )
    project, id = Project.load(), kernel
    if image:
        from bpfmatrix.kernels.image_option import with_image  # noqa: PLC0415

        project, id = with_image(project, Path(image))
    if status := run_in_gdb(project, id, tests, asked):
        raise Exit(code=status)
