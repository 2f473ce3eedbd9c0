"""Rules for the words of a library: a pattern for a line, and the reason that it stands for."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons.facts import Failure, KernelFacts, ProgramFacts, Reason

__all__ = ["Context", "Rule", "first_match", "rules", "says"]


@dataclass(frozen=True)
class Context:
    """What a rule may look at besides its match."""

    failure: Failure
    program: ProgramFacts
    kernel: KernelFacts
    line: str = ""
    """The line that matches."""


_Make = Callable[[re.Match[str], Context], Reason]


@dataclass(frozen=True)
class Rule:
    """A pattern for a line of a library's words, and what to make of a match."""

    pattern: re.Pattern[str]
    make: _Make


def rules(*pairs: tuple[str, _Make]) -> tuple[Rule, ...]:
    """Return rules of pairs: a pattern, which may match anywhere in a line, and its function."""
    return tuple(Rule(re.compile(pattern), make) for pattern, make in pairs)


def says(code: Code) -> _Make:
    """Return the function of a rule that gives a code, with the library's line as the reason."""
    return lambda match, context: Reason(code, context.line)


def first_match(known: Iterable[Rule], words: Sequence[str], context: Context) -> Reason | None:
    """Return the reason of the first rule that matches a line; None if none does."""
    for rule in known:
        for line in words:
            if match := rule.pattern.search(line):
                found = Context(context.failure, context.program, context.kernel, line)
                return rule.make(match, found)
    return None
