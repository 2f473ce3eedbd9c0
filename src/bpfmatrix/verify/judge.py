"""How a program's result counts, by `max_insns` and by what kernels.yaml expects to fail."""

import dataclasses
from dataclasses import dataclass, field

from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Statistics

__all__ = ["Judge"]


@dataclass(frozen=True)
class Judge:
    """Turns a load that took too many instructions into a failure, and marks expected failures."""

    max_insns: str = "100%"
    """A percentage of the verifier's limit, or a number of instructions."""
    expected: Expectations = field(default_factory=Expectations)

    def judge(self, result: ProgramResult) -> ProgramResult:
        """Return the result as it counts."""
        count, limit = result.statistics.instructions_processed, self._limit(result.statistics)
        if result.outcome is Outcome.PASSED and count is not None and limit and count > limit:
            whole = result.statistics.instructions_limit
            share = f" of {whole:,} ({count / whole:.0%})" if whole else ""
            result = dataclasses.replace(
                result,
                outcome=Outcome.FAILED,
                code=Code.TOO_CLOSE,
                reason=f"{count:,}{share} instructions processed, more than {self.max_insns}",
            )
        reason = self.expected.of_program(
            result.object, result.program, result.outcome, result.loader
        )
        return dataclasses.replace(result, expected=reason)

    def _limit(self, statistics: Statistics) -> float | None:
        """Return the limit in instructions; None if it is a share of an unknown number."""
        if not self.max_insns.endswith("%"):
            return int(self.max_insns)
        whole = statistics.instructions_limit
        return whole * int(self.max_insns[:-1]) / 100 if whole else None
