"""The task `doctor`: what this machine has, and lacks, of what bpfmatrix needs."""

from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["doctor"]


@option_task()
def doctor(values: Values) -> int:
    """Show what this machine has and lacks: tools, accelerator, disk space, kernels."""
    from bpfmatrix.cli.doctor import checks, print_checks
    from bpfmatrix.config.project import Project

    return 0 if print_checks(checks(Project.load())) else 1
