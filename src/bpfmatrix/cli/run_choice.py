"""Which parts of a project a command runs: its tests, `verify` of its eBPF objects, or both."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from bpfmatrix.cli import options
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from bpfmatrix.config.models import Included
    from bpfmatrix.config.project import Project

__all__ = ["TESTS", "RunChoice", "chosen"]


@dataclass(frozen=True)
class RunChoice:
    """The parts that run on each kernel."""

    parts: "tuple[Included, ...]"
    is_asked: bool
    """Whether the command line or kernels.yaml names them, so that none may be left out."""


TESTS = RunChoice(("tests",), is_asked=True)


def chosen(project: "Project", values: Values) -> RunChoice:
    """Return what a command line asks for, or else kernels.yaml, or else all that is declared.

    ConfigError if nothing is declared, UsageError for words that contradict each other.
    """
    from bpfmatrix.payload.declared import declared, nothing_declared

    names_tests = values[options.RUN] is not None or values[options.BINARY] or values.arguments
    if only := values[options.ONLY]:
        if only == "verify" and names_tests:
            raise UsageError(
                "--only verify runs no tests, which the command line names",
                "Leave out --only verify, or --run, --binary and the tests' own arguments.",
            )
        return RunChoice((cast("Included", only),), is_asked=True)
    if names_tests:
        return TESTS
    if included := project.config.matrix.includes:
        return RunChoice(tuple(dict.fromkeys(included)), is_asked=True)
    if not (found := declared(project)):
        raise nothing_declared()
    return RunChoice(found, is_asked=False)
