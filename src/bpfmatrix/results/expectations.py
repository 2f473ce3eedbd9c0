"""Expected failures and skips: which entries of `expect` in kernels.yaml apply to a result.

`Expectations.of` selects the entries for one kernel. `of_test`, `of_program`
and `of_warning` then return the reason of the entry that applies, which becomes `expected` in its
result. A result that has both `expected` and the outcome `passed` has passed unexpectedly.
"""

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from bpfmatrix.config.models import Expectation
from bpfmatrix.host.versions import numbers
from bpfmatrix.results.names import named, split_pattern
from bpfmatrix.results.outcome import Outcome

__all__ = ["Expectations"]

_FAILURES = (Outcome.FAILED, Outcome.TIMEOUT)


@dataclass(frozen=True)
class Expectations:
    """The expectations that are active for one kernel."""

    active: tuple[Expectation, ...] = ()

    @classmethod
    def of(
        cls, declared: Iterable[Expectation], release: str, today: date | None = None
    ) -> "Expectations":
        """Select those that are active today, for a kernel of this release, such as `6.1.192`."""
        day, version = today or date.today(), numbers(release)

        def is_active(expectation: Expectation) -> bool:
            if expectation.until_date is not None:
                return day <= expectation.until_date
            # If the kernel's release is unknown, the expectation stays active.
            end = expectation.until_release
            return not end or not version or version < end

        return cls(tuple(filter(is_active, declared)))

    def of_test(self, binary: str, name: str, outcome: Outcome) -> str:
        """Return the reason for the outcome of a test; empty if no expectation applies.

        `binary` is the executable that the test belongs to.
        """
        parts = name.split("/")
        known = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]

        def applies(expectation: Expectation) -> bool:
            if expectation.test is None:
                return False
            if fnmatch.filter(known, expectation.test):
                return True
            package, pattern = split_pattern(expectation.test) or ("", "")
            return bool(package and named(package, [binary]) and fnmatch.filter(known, pattern))

        return self._reason(outcome, applies)

    def of_program(self, object: str, name: str, outcome: Outcome, loader: str = "") -> str:
        """Return the reason for the outcome of a program; empty if no expectation applies.

        `loader` is the name of the loader that was asked.
        """
        return self._reason(
            outcome,
            lambda expectation: (
                expectation.program is not None
                and fnmatch.fnmatchcase(name, expectation.program)
                and (expectation.object is None or fnmatch.fnmatchcase(object, expectation.object))
                and expectation.loader in (None, loader)
            ),
        )

    def of_warning(self, title: str) -> str:
        """Return the reason for a warning of the kernel; empty if none is expected."""
        patterns = [(one.warning, one.reason) for one in self.active if one.warning is not None]
        return next((why for known, why in patterns if fnmatch.fnmatchcase(title, known)), "")

    def _reason(self, outcome: Outcome, applies: Callable[[Expectation], bool]) -> str:
        for expectation in filter(applies, self.active):
            accepted = _FAILURES if expectation.outcome == "failed" else (Outcome.SKIPPED,)
            if outcome is Outcome.PASSED or outcome in accepted:
                return expectation.reason
        return ""
