"""Failures of many programs, grouped by their reasons, so that hundreds of them fit on a screen.

Two failures are alike if they have the same code, and reasons that differ only in names and
numbers. In what the verifier says, names make the reason; elsewhere most of the words must be the
same.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from bpfmatrix.results.verification import Code, ProgramResult, Verification

__all__ = ["ReasonGroup", "common_words", "grouped"]

Failure = tuple[Verification, ProgramResult]
"""A program that did not load, and the results of its kernel."""

# What differs from one program to another in reasons that are the same.
_NUMBER = re.compile(r"\b0x[0-9a-fA-F]+\b|\d+")
# A part of a name that several names begin or end with is no word.
_NAME_AT_BEGIN, _NAME_AT_END = re.compile(r"^\w+"), re.compile(r"\w+$")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_MISSING = "\N{HORIZONTAL ELLIPSIS}"
# Two reasons are alike if one word differs and these are left, or if less than this share differs.
_FEWEST_WORDS = 2
_FEW = 0.15


@dataclass(frozen=True)
class ReasonGroup:
    """Programs that failed for the same reason."""

    code: str
    """The code, or the outcome if there is no code."""
    reason: str
    """The reason that they share, with an ellipsis for what differs."""
    failures: tuple[Failure, ...]

    @property
    def programs(self) -> tuple[tuple[str, str], ...]:
        """The objects and names of the programs, each once, though it failed on many kernels."""
        return tuple(dict.fromkeys((p.object, p.program) for _, p in self.failures))


def grouped(failures: Iterable[Failure]) -> list[ReasonGroup]:
    """Group failures by code and reason, the largest group first."""
    by_code: dict[str, dict[str, list[Failure]]] = {}
    for failure in failures:
        code = str(failure[1].code or failure[1].outcome)
        patterns = by_code.setdefault(code, {})
        pattern = _pattern(failure[1])
        if code != Code.VERIFIER_REJECTED:
            pattern = next((known for known in patterns if _are_alike(known, pattern)), pattern)
        patterns.setdefault(pattern, []).append(failure)
    groups = [
        ReasonGroup(code, common_words([p.reason for _, p in found]), tuple(found))
        for code, patterns in by_code.items()
        for found in patterns.values()
    ]
    return sorted(groups, key=lambda group: -len(group.programs))


def _are_alike(one: str, other: str) -> bool:
    ours, theirs = one.split(), other.split()
    if len(ours) != len(theirs):
        return False
    differ = sum(mine != yours for mine, yours in zip(ours, theirs, strict=True))
    return differ < _FEW * len(ours) or (differ == 1 and len(ours) > _FEWEST_WORDS)


def _pattern(result: ProgramResult) -> str:
    """Return the reason without what depends on the program."""
    reason = result.reason
    names = [result.object, PurePath(result.object).name]
    if result.code is Code.VERIFIER_REJECTED:
        # The verifier quotes kinds of values, which make the reason: 'scalar', 'map_value_or_null'.
        names.append(result.program)
    else:
        reason = _QUOTED.sub(_MISSING, reason)
    for name in names:
        reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", _MISSING, reason)
    return _NUMBER.sub(_MISSING, reason)


def common_words(reasons: Sequence[str]) -> str:
    """Return what some texts have in common, word by word, with an ellipsis for what differs."""
    words = [reason.split() for reason in dict.fromkeys(reasons)]
    if len(words) == 1:
        return reasons[0]
    if len({len(each) for each in words}) > 1:
        # Names of several words: only what comes before the first of them is comparable.
        short = min(len(each) for each in words)
        words = [each[:short] for each in words]
        shared = [_common(each) for each in zip(*words, strict=True)]
        end = next((at for at, word in enumerate(shared) if word.endswith(_MISSING)), short)
        return " ".join([*shared[:end], _MISSING])
    return " ".join(_common(each) for each in zip(*words, strict=True))


def _common(words: Sequence[str]) -> str:
    """Return what the words have in common: all but their numbers, or what is around a name."""
    numberless = {_NUMBER.sub(_MISSING, word) for word in words}
    if len(set(words)) == 1:
        return words[0]
    if len(numberless) == 1:
        return numberless.pop()
    begin = _NAME_AT_END.sub("", _beginning(words))
    end = _beginning([word[len(begin) :][::-1] for word in words])[::-1]
    return f"{begin}{_MISSING}{_NAME_AT_BEGIN.sub('', end)}"


def _beginning(words: Sequence[str]) -> str:
    """Return the characters that all of the words begin with."""
    shared = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*words, strict=False))
    return "".join(characters[0] for characters in shared)
