"""The tasks `ci.*`: what a CI job does besides running kernels (docs/ci.md)."""

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["comment", "plan"]


@option_task(options.KERNELS, options.PROFILE)
def plan(values: Values) -> None:
    """Print a job for each kernel, as JSON for the matrix of a workflow on GitHub."""
    import json
    import sys

    from bpfmatrix.ci.plan import plan as plan_jobs
    from bpfmatrix.cli.kernel_choice import several_kernels
    from bpfmatrix.config.project import Project

    project = Project.load()
    project, ids = several_kernels(project, values, project.config.matrix_ids)
    # On one line: GITHUB_OUTPUT takes name=value.
    sys.stdout.write(json.dumps(plan_jobs(project.config, ids)) + "\n")


@option_task(options.MARKDOWN, options.COMMENT_NAME)
def comment(values: Values) -> None:
    """Comment on the pull request or merge request of this job; a later job replaces it."""
    import os
    from pathlib import Path

    from bpfmatrix.ci.conversation import NoConversation, keep_comment, of_job
    from bpfmatrix.cli.console import say
    from bpfmatrix.errors import UsageError

    file = values[options.MARKDOWN]
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", "Name a file with Markdown.") from error
    try:
        conversation = of_job(os.environ)
        kept = keep_comment(conversation, values[options.COMMENT_NAME], text)
    except NoConversation as error:
        say(str(error))  # the job goes on: what can't be commented is in its summary
    else:
        say(f"{conversation.name}: {kept.value}")
