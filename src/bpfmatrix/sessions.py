"""The nox sessions of a project with a kernels.yaml: its noxfile.py calls `register`."""

from bpfmatrix.host import interrupts

with interrupts.ending():
    from bpfmatrix.cli.sessions import register

__all__ = ["register"]
