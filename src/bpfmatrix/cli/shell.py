"""What the task `shell` does: run a shell, or one command, on a kernel.

Standard input and output belong to the command. Everything else goes to standard error, progress
only if that is a terminal.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bpfmatrix.cli.console import LiveConsole, say
from bpfmatrix.config.project import Project
from bpfmatrix.payload.model import MOUNT_POINT
from bpfmatrix.rootfs.spec import RootSpec
from bpfmatrix.session.guest_session import EnteredGuest
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.pipeline import run_one
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.shell.workload import ShellWorkload
from bpfmatrix.virtiofs.shares import HostFiles

__all__ = ["shell", "with_tools"]


def shell(project: Project, id: str, command: Sequence[str], options: SessionOptions) -> int:
    """Run a command, or else a shell, on a kernel; return its exit status.

    BpfmatrixError if the kernel can't be provided or booted, SessionEndedError if its machine ends
    before the command does.
    """
    with _Progress(id) as console, TemporaryDirectory(prefix="bpfmatrix-") as folder:

        def attach(entered: EnteredGuest, prepared: Prepared, is_shell: bool) -> None:
            console.stop()  # from here on, the terminal belongs to the command
            if is_shell:
                image = prepared.image.description
                say(f"{image}; {entered.start}. `exit` ends it.", stderr=True)

        workload = ShellWorkload(project, command, options, Path(folder), attach)
        return run_one(project, id, workload, console)


def with_tools(files: HostFiles) -> HostFiles:
    """Return the files of a session whose root has perf, bpftrace and bpftool."""
    return replace(
        files, root=None, image=RootSpec("--tools", tools=True), folder=Path(MOUNT_POINT)
    )


class _Progress(LiveConsole):
    """Shows progress on a terminal only. The only step that it shows is a failed template."""

    def __init__(self, id: str) -> None:
        super().__init__([id], stderr=True)
        self.github.active = False  # a group is for the output of a run of tests

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Observer."""
        if name == "template":
            super().step(kernel, name, detail, result)
        else:
            self.done(kernel)
