"""The task `debug`: the tests on a kernel, or the loading of eBPF objects, under gdb."""

from typing import TYPE_CHECKING

from bpfmatrix.cli import options
from bpfmatrix.cli.kernel_choice import one_kernel
from bpfmatrix.cli.options import AnyOption
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values, debug_options, run_options, verify_options
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from bpfmatrix.config.project import Project
    from bpfmatrix.suite.options import RunOptions
    from bpfmatrix.verify.options import VerifyOptions

__all__ = ["debug"]


take_words("debug", options.KERNEL)

_OF_OBJECTS: tuple[AnyOption, ...] = (
    options.PROGRAM.with_help("Load only this program of the objects. Default: all of them."),
    *options.LOADING,
)
_OF_TESTS: tuple[AnyOption, ...] = (
    options.RUN,
    options.BINARY,
    *options.HOST_FILES,
    *options.PRIVILEGES,
)


_OPTIONS: tuple[AnyOption, ...] = (
    options.KERNEL,
    options.IMAGE,
    options.RUN,
    options.BINARY,
    options.OBJECT,
    *_OF_OBJECTS,
    options.GUEST_CORE,
    options.BREAK,
    options.BATCH,
    options.GDB_ARGS,
    options.ATTACH_LATER,
    options.PORT,
    options.JSON_PORT,
    options.VSCODE,
    options.VMLINUX,
    options.SOURCE,
    options.NAMES,
    options.COLD,
    options.ACCEL,
    *options.HOST_FILES,
    *options.PRIVILEGES,
)
# What is asked of gdb and of the symbols: all else is about a machine, or what it runs.
_OF_CORES: tuple[AnyOption, ...] = (
    options.GUEST_CORE,
    options.KERNEL,
    options.IMAGE,
    options.VMLINUX,
    options.SOURCE,
    options.NAMES,
    options.BATCH,
    options.GDB_ARGS,
)


@option_task(*_OPTIONS)
def debug(values: Values) -> int:
    """Run the tests, or load eBPF objects, on one kernel under gdb, which stops in the verifier.

    --object FILE loads an object as `verify` does, so no test is needed. A project that declares
    objects and no tests has its objects loaded.
    """
    from bpfmatrix.cli.debug import debug as run_in_gdb

    if values[options.VSCODE] and values[options.IMAGE]:
        raise UsageError("--vscode is for a kernel of kernels.yaml", "Give it an entry there.")
    if core := values[options.GUEST_CORE]:
        return _open_core(values, core)
    project, id = one_kernel(values)
    return run_in_gdb(project, id, _asked(values, project), debug_options(values))


def _open_core(values: Values, file: "Path") -> int:
    """Open a core file of a guest's memory in gdb."""
    from bpfmatrix.cli.debug import open_core
    from bpfmatrix.config.project import Project

    wrong = _given(values, tuple(one for one in _OPTIONS if one not in _OF_CORES))
    if values.arguments:
        wrong.append("arguments of tests")
    if wrong:
        raise UsageError(
            f"--core and {wrong[0]} don't go together",
            "No machine runs: a core file has stopped for good.",
        )
    project, id = Project.load(), values[options.KERNEL]
    if values[options.IMAGE]:
        project, id = one_kernel(values)
    id = project.config.kernel(id).id if id else None
    return open_core(project, file, id, debug_options(values))


def _asked(values: Values, project: "Project") -> "RunOptions | VerifyOptions":
    """Return which tests are run, or which objects are loaded."""
    import dataclasses

    from bpfmatrix.payload.declared import declared

    of_tests = _given(values, _OF_TESTS)
    of_objects = _given(values, (options.OBJECT, *_OF_OBJECTS))
    if values.arguments:
        of_tests.append("arguments of tests")
    if of_objects and of_tests:
        raise UsageError(
            f"{of_objects[0]} and {of_tests[0]} don't go together",
            "Either objects are loaded, or tests run.",
        )
    if not of_objects and (of_tests or declared(project) != ("verify",)):
        return run_options(values, project)
    program = values[options.PROGRAM]
    return dataclasses.replace(
        verify_options(values),
        objects=values[options.OBJECT],
        only=() if program is None else (program,),
    )


def _given(values: Values, among: tuple[AnyOption, ...]) -> list[str]:
    """Return the options of these that the command line has, with their dashes."""
    return [f"--{one.name}" for one in among if values[one] not in (one.default, None)]
