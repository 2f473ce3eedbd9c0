"""What kernels.yaml expects to fail or to be skipped, and whether a result is that.

`Expected` is made for one kernel, and asked about each of its tests and eBPF programs. Its answer
is the reason that kernels.yaml gives, which then stands in the result's `expected`: with an outcome
that did not pass, it was expected; with `passed`, it was expected not to.
"""

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from bpfmatrix.config.models import Expectation
from bpfmatrix.host.versions import numbers
from bpfmatrix.results.outcome import Outcome

__all__ = ["Expected"]

_FAILURES = (Outcome.FAILED, Outcome.TIMEOUT)


@dataclass(frozen=True)
class Expected:
    """The expectations that hold for one kernel now."""

    active: tuple[Expectation, ...] = ()

    @classmethod
    def of(
        cls, declared: Iterable[Expectation], release: str, today: date | None = None
    ) -> "Expected":
        """Choose those that hold for a kernel of this release, such as `6.1.192`, today."""
        day, version = today or date.today(), numbers(release)

        def holds(expectation: Expectation) -> bool:
            if expectation.until_date is not None:
                return day <= expectation.until_date
            # Of a kernel that does not say its release, nobody knows that it is past it.
            end = expectation.until_release
            return not end or not version or version < end

        return cls(tuple(filter(holds, declared)))

    def of_test(self, name: str, outcome: Outcome) -> str:
        """Return the reason for a test's outcome, or nothing."""
        parts = name.split("/")
        names = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        return self._reason(
            outcome,
            lambda wanted: (
                wanted.test is not None
                and any(fnmatch.fnmatchcase(known, wanted.test) for known in names)
            ),
        )

    def of_program(self, object: str, name: str, outcome: Outcome) -> str:
        """Return the reason for the outcome of a program of an object, or nothing."""
        return self._reason(
            outcome,
            lambda wanted: (
                wanted.program is not None
                and fnmatch.fnmatchcase(name, wanted.program)
                and (wanted.object is None or fnmatch.fnmatchcase(object, wanted.object))
            ),
        )

    def _reason(self, outcome: Outcome, is_about: Callable[[Expectation], bool]) -> str:
        for wanted in filter(is_about, self.active):
            accepted = _FAILURES if wanted.outcome == "failed" else (Outcome.SKIPPED,)
            if outcome is Outcome.PASSED or outcome in accepted:
                return wanted.reason
        return ""
