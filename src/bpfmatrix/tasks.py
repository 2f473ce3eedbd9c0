"""The invoke tasks of a project with a kernels.yaml: its tasks.py imports `namespace`."""

from bpfmatrix.host import interrupts

with interrupts.ending():
    from bpfmatrix.cli.tasks import namespace

__all__ = ["namespace"]
