"""What to type next about a failure: the same commands on the console and on the page.

Each function returns commands by what they are for, such as `run it alone`, in the order in which
they are shown. Commands that could not work are left out.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bpfmatrix.config.kernel_ids import profile_of
from bpfmatrix.report.again import Again
from bpfmatrix.results.outcome import FINE, GuestRun, Outcome
from bpfmatrix.results.verification import Code

__all__ = [
    "LOAD_AGAIN",
    "FailedProgram",
    "FailedTest",
    "has_passed",
    "is_alike",
    "of_program",
    "of_test",
    "where_it_stops",
]

LOAD_AGAIN = "load it again"
# A breakpoint at the rejection is at the verifier's message, which other failures do not have.
_OF_VERIFIER = (Code.VERIFIER_REJECTED, Code.TOO_COMPLEX)
_AT_REJECTION = ("--break", "rejection")


@dataclass(frozen=True)
class FailedProgram:
    """A program that did not load, on all kernels on which that was for the same reason."""

    object: str
    """The path of the object, as it is typed; empty if it is not known."""
    name: str
    kernels: Sequence[str]
    """The ids of the kernels."""
    code: str = ""
    options: Sequence[str] = ()
    """The options with which it was loaded, such as `--loader aya`."""


@dataclass(frozen=True)
class FailedTest:
    """A test that failed on a kernel."""

    again: Again
    kernel: str
    pattern: str
    """The text after `--run` that selects it."""
    good: str = ""
    """The nearest kernel on which it passed; empty if there is none."""
    label: str = field(default="", compare=False)
    """The name of the test, for people."""


def of_test(
    test: FailedTest, program: FailedProgram | None = None, *, is_alone: bool = False
) -> dict[str, str]:
    """Return the commands about a test, and about the program that it could not load.

    `is_alone` says that only one kernel ran. A bisection then looks for a good one by itself. Where
    none of several kernels is good, it probably would not find one.
    """
    again = test.again
    found = {"run it alone": again.run(test.kernel, test.pattern)}
    if stops := where_it_stops(test, program.code if program else ""):
        found["where it stops"] = stops
    else:
        found["look inside"] = again.debug(test.kernel, test.pattern)
    if program and program.object:
        found["every program"] = again.verify(
            program.kernels, program.object, options=program.options
        )
    if test.good or is_alone:
        found["since when"] = again.bisect(test.kernel, test.pattern, test.good)
    return _possible(found)


def of_program(
    again: Again,
    program: FailedProgram,
    shown: str,
    good: str = "",
    *,
    has_log: bool = False,
    is_alone: bool = False,
    test: FailedTest | None = None,
) -> dict[str, str]:
    """Return the commands about a program that `verify` could not load.

    `shown` is the kernel whose log is shown, `good` the nearest one on which it loaded, and `test`
    one that failed for it. See `of_test` for `is_alone`.
    """
    object, name, options = program.object, program.name, program.options
    found = {LOAD_AGAIN: again.verify(program.kernels, object, ("--filter", name), options)}
    if has_log:
        lines = again.verify((shown,), object, ("--annotate", name), options)
        found["cost of its lines"] = lines
    if test:
        found["where it stops"] = where_it_stops(test, program.code)
    elif program.code in _OF_VERIFIER:
        stops = again.debug_program(shown, object, name, (*options, *_AT_REJECTION))
        found["where it stops"] = stops
    if good or is_alone:
        found["since when"] = again.bisect_program(shown, good, object, name, options)
    return _possible(found)


def where_it_stops(test: FailedTest, code: str) -> str:
    """Return the command that stops where the verifier rejects the program of a test.

    It is empty if the program did not load for another reason.
    """
    if code not in _OF_VERIFIER:
        return ""
    return test.again.debug(test.kernel, test.pattern, *_AT_REJECTION)


def is_alike(one: GuestRun, other: GuestRun) -> bool:
    """Whether two kernels have the same architecture and profile."""
    return one.arch == other.arch and profile_of(one.kernel) == profile_of(other.kernel)


def has_passed(outcomes: Collection[Outcome]) -> bool:
    """Whether a test with its subtests, or a program with its variants, passed on a kernel."""
    return Outcome.PASSED in outcomes and all(one in FINE for one in outcomes)


def _possible(found: dict[str, str]) -> dict[str, str]:
    return {what: words for what, words in found.items() if words}
