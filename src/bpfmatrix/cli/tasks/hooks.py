"""The task `hooks.install`: git runs the tests before each push."""

from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["install"]


@option_task()
def install(values: Values) -> None:
    """Let git run `pre-push` before each push. A hook that is there is kept, and called."""
    from bpfmatrix.cli.console import say
    from bpfmatrix.cli.hooks import install as install_hook
    from bpfmatrix.config.project import Project

    hook, kept = install_hook(Project.load())
    say(f"installed {hook}")
    if kept:
        say(f"the hook that was there is {kept.name} now, and is called first")
