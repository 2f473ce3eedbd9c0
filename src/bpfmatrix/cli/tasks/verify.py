"""The task `verify`: eBPF objects loaded on many kernels, with no test written for them."""

from typing import TYPE_CHECKING

from bpfmatrix.cli import options
from bpfmatrix.cli.again import again_of
from bpfmatrix.cli.kernel_choice import several_kernels
from bpfmatrix.cli.options import AnyOption
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values, selection, verify_options
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from bpfmatrix.cli.verify import OutputOptions
    from bpfmatrix.config.project import Project

__all__ = ["VERIFY_OPTIONS", "verify", "verify_project"]

take_words("verify", options.OBJECTS)


VERIFY_OPTIONS: tuple[AnyOption, ...] = (
    options.KERNEL,
    *options.SEVERAL_KERNELS,
    options.OBJECTS,
    options.LOADER,
    options.PRESET,
    options.ATTACH,
    options.SET,
    options.MAP_SIZE,
    options.MAX_INSNS,
    options.LIMIT,
    options.FILTER,
    options.SORT,
    options.TOP,
    options.STATISTICS,
    options.ANNOTATE,
    options.SAVE,
    options.PUSH,
    options.AGAINST,
    options.CHANGES,
    options.THRESHOLD,
    options.JSON,
    options.CSV,
    options.REPLAY,
    options.COLD,
    options.DUMP,
    options.RAW,
)
"""The options of the task, and of the session of nox."""


@option_task(*VERIFY_OPTIONS)
def verify(values: Values) -> int:
    """Load every program of eBPF objects on every kernel, and show what the verifier says.

    The objects are the words after the task, as in `verify a.bpf.o build/`. A folder stands for the
    objects in it. Without any, they are those of `verify` in kernels.yaml, or else those that the
    project builds.
    """
    from bpfmatrix.config.project import Project

    return verify_project(Project.load(), values)


def verify_project(project: "Project", values: Values) -> int:
    """Do what the options ask for, and return the exit status."""
    from bpfmatrix.cli import verify

    if values[options.REPLAY]:
        return _replay(project, values)
    project, ids = several_kernels(project, values, project.config.matrix_ids)
    if program := values[options.ANNOTATE]:
        for option in (
            *(options.AGAINST, options.SAVE, options.CSV, options.JSON),
            *(options.SORT, options.TOP, options.STATISTICS),
        ):
            if values[option]:
                raise UsageError(f"--annotate and --{option.name} don't go together")
        if len(ids) != 1:
            raise UsageError("--annotate is for one kernel", "Name it: --kernel 6.1.")
        return verify.annotate(project, ids[0], verify_options(values), program)
    return verify.verify(project, ids, verify_options(values), _output(values), again_of(values))


def _replay(project: "Project", values: Values) -> int:
    from bpfmatrix.cli import verify

    for option in (
        *(options.OBJECTS, options.KERNEL, options.KERNELS, options.ANNOTATE, options.LOADER),
        *(options.PRESET, options.SET, options.MAP_SIZE, options.ATTACH, options.MAX_INSNS),
        options.LIMIT,
    ):
        if values[option]:
            raise UsageError(
                f"--replay and --{option.name} don't go together", "Choose by --filter."
            )
    names = verify_options(values).names
    return verify.replay(project, values[options.REPLAY], names, _output(values))


def _output(values: Values) -> "OutputOptions":
    from bpfmatrix.cli import verify
    from bpfmatrix.verify.baseline import BaselineName

    if values[options.JSON] and values[options.CSV] == "-":
        raise UsageError("--json and --csv - can't both be printed", "Name a file: --csv FILE.")
    for option, needed in ((options.PUSH, options.SAVE), (options.CHANGES, options.AGAINST)):
        if values[option] and not values[needed]:
            raise UsageError(f"--{option.name} needs --{needed.name}")
    keeps = isinstance(values[options.SAVE], BaselineName)
    if keeps and (values[options.OBJECTS] or values[options.FILTER]):
        raise UsageError("--save baseline keeps the results of all objects, and not of some")
    if values[options.PUSH] and not keeps:
        raise UsageError("--push is for --save baseline, and not for a file")
    return verify.OutputOptions(
        jobs=values[options.JOBS],
        statistics=values[options.STATISTICS],
        save=values[options.SAVE],
        push=values[options.PUSH],
        against=values[options.AGAINST],
        changes=values[options.CHANGES],
        threshold=values[options.THRESHOLD],
        as_json=values[options.JSON],
        csv=values[options.CSV],
        selection=selection(values),
        raw=values[options.RAW],
    )
