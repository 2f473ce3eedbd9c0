"""What a test printed of a program, beside what `verify` says of it: one `Rejection` of the two.

`as_printed` makes a rejection of what the test printed, which alone decides that there is one. If
`verify` was refused for the `same` reason, `with_verified` adds the line of C from its complete
log. Otherwise `at_lines` finds the line of the instruction that the test printed, if it did.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.rejections.printed import PrintedFailure, has_verifier_words
from bpfmatrix.results.kernel_run import Rejection, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult
from bpfmatrix.verify import source_lines, verifierlog
from bpfmatrix.verify.reasons.explain import reason_of
from bpfmatrix.verify.reasons.facts import Failure, KernelFacts, MapFacts, ProgramFacts
from bpfmatrix.verify.verifierlog import LineInfo

__all__ = [
    "Verified",
    "as_printed",
    "at_lines",
    "count_alike",
    "named_in_log",
    "needs_verify",
    "same",
    "with_apart",
    "with_verified",
]

_SPACE = re.compile(r"\s+")
# Addresses and ids differ from load to load.
_NUMBERS = re.compile(r"0x[0-9a-f]+|id=\d+")
# What an error without the verifier's words says of the test's privileges, or of its limit of
# locked memory, and not of the program or map.
_PRIVILEGES = ("EPERM",)
# What bpf(2) does not say of a program that it rejects, unless the verifier's log says more.
_OTHER_ERRORS = ("ENOENT", "EAGAIN", "EINTR")
# Stands for a type or a target of a program that nobody printed.
_UNKNOWN = "\0"
_LOADED_AGAIN = "loaded by verify once more, after the tests"
_OF_MAPS = (Code.MAP_CREATE_FAILED, Code.UNSUPPORTED_MAP_TYPE, Code.NO_MEMORY)


@dataclass(frozen=True)
class Verified:
    """What `verify` says of one program on one kernel."""

    result: ProgramResult
    log: str = ""
    """The verifier's log, or its end; empty if there is none."""
    lines: Sequence[LineInfo] = ()
    """The lines of C in the object's BTF."""
    folders: Sequence[Path] = ()
    """Where the source files may be; the first is the project's root."""
    ran_now: bool = False
    """Whether the program was loaded for this, after the tests."""


def as_printed(test: TestResult, printed: PrintedFailure) -> Rejection | None:
    """Return what the test's output alone says; None if it is no rejection."""
    if _is_other_failure(printed):
        return None
    log = "\n".join(printed.log)
    failure = Failure(
        step=printed.step,
        errno=printed.errno,
        words=printed.words,
        # Its size is not printed: one that is not 0 keeps the answer from being about the size.
        map=MapFacts(printed.map, entries=1) if printed.map else None,
        log=log,
    )
    facts = ProgramFacts(type=_UNKNOWN, attach_to=_UNKNOWN)
    reason = reason_of(failure, facts, KernelFacts(), printed.loader)
    if printed.step in ("relocate", "open") and reason.code in (
        Code.UNSUPPORTED_BY_LOADER,
        Code.LOAD_FAILED,
    ):
        return None  # no rule knows these words: they may be about something else
    text = reason.text
    if _UNKNOWN in text:  # it is about something that is not printed
        text = (verifierlog.rejection(log).message or printed.words or (printed.errno,))[-1]
    explained = source_lines.explain(log, verifierlog.lines_of(printed.log)) if log else None
    return Rejection(
        test.binary,
        test.name,
        printed.program,
        str(reason.code),
        text,
        printed.errno,
        explained.source if explained and _has_number(explained.source) else "",
        explained.text if explained else "\n".join(printed.words),
        loader=printed.loader,
    )


def _is_other_failure(printed: PrintedFailure) -> bool:
    """Whether words like those of a rejection are not about what the verifier, or a map, is."""
    if has_verifier_words(printed.log):
        return False
    if printed.step == "load":
        # Without a name, it may be about any program, such as one that is not of eBPF.
        return not printed.program or printed.errno in (*_PRIVILEGES, *_OTHER_ERRORS)
    is_about_memory = any("MEMLOCK" in line for line in printed.words)
    return printed.step == "map" and (printed.errno in _PRIVILEGES or is_about_memory)


def named_in_log(printed: PrintedFailure, programs: Iterable[str]) -> str:
    """Return the program that a log is of, if its library does not say it; empty if unknown.

    The first line of source in a log is that of the first instruction: the head of the function.
    """
    first = next((line for line in printed.log if line.startswith("; ")), "")
    found = [name for name in programs if re.search(rf"\b{re.escape(name)}\(", first)]
    return found[0] if len(found) == 1 else ""


def count_alike(printed: PrintedFailure, lines: Iterable[LineInfo]) -> int:
    """Return how many lines of source in a log are lines of a program, to tell objects apart."""
    texts = {one.text.strip() for one in lines}
    return len({one.text for one in verifierlog.lines_of(printed.log)} & texts)


def _has_number(source: str) -> bool:
    return source.rpartition(":")[2].isdecimal()


def needs_verify(found: Rejection, printed: PrintedFailure) -> bool:
    """Whether loading the program by `verify` can tell more than the test printed."""
    return printed.loader != "bcc" and not (found.source and found.program and printed.is_whole)


def same(printed: PrintedFailure, known: Iterable[Verified]) -> Verified | None:
    """Return the first program that `verify` was refused for the reason that the test printed.

    None if only the kernel's error was printed, and programs of several objects have the same.
    """
    failed = [one for one in known if one.result.outcome is not Outcome.PASSED]
    found = [one for one in failed if _is_same(printed, one)]
    objects = {one.result.object for one in found}
    return found[0] if found and (printed.log or len(objects) == 1) else None


def with_apart(found: Rejection, printed: PrintedFailure, known: Iterable[Verified]) -> Rejection:
    """Return a rejection that `verify` does not see, with a note that says so."""
    alike = [one for one in known if one.result.program == printed.program]
    if not alike:
        return found
    one, objects = alike[0], sorted({each.result.object for each in alike})
    if len(objects) > 1:
        note = f"it may be the program of any of these objects: {', '.join(objects)}"
        return dataclasses.replace(found, note=note)
    passed = one.result.outcome is Outcome.PASSED
    how = "loads" if passed else f"fails for another reason ({one.result.reason})"
    note = (
        f"as verify loads it, the program {how}: the test may set constants, map sizes or types "
        "that are not in the object, or use another release of the library"
    )
    if printed.loader == "cilium-ebpf" and not found.source:
        note += "; print the ebpf.VerifierError with %+v to see where the verifier stopped"
    return dataclasses.replace(found, object=one.result.object, note=note)


def _is_same(printed: PrintedFailure, verified: Verified) -> bool:
    """Whether `verify` was refused for the same reason as the test's program."""
    if printed.program and printed.program != verified.result.program:
        return False
    if printed.map:
        result = verified.result
        return (
            result.code in _OF_MAPS
            and re.search(rf"\b{re.escape(printed.map)}\b", result.reason) is not None
        )
    said = [line for line in map(_plain, printed.log) if line]
    if not said:
        # cilium/ebpf prints no message of a kernel whose log ends with an explanation (7.3).
        same_errno = printed.errno in ("", verified.result.errno)
        return bool(printed.program) and (same_errno or printed.step != "load")
    known = {_plain(line) for line in verified.log.splitlines()}
    return any(line in known for line in _messages(printed)) if known else False


def _messages(printed: PrintedFailure) -> list[str]:
    found = verifierlog.rejection("\n".join(printed.log)).message
    return [_plain(line) for line in (found or printed.log[-1:])]


def _plain(line: str) -> str:
    return _NUMBERS.sub("", _SPACE.sub(" ", line)).strip()


def with_verified(found: Rejection, one: Verified, source: Callable[[str], str] = str) -> Rejection:
    """Return a rejection with the line of C and the complete log of the same program in `verify`.

    `source` returns the path of a source file to show, by its path in the BTF.
    """
    result = one.result
    place, text = result.source, result.verifier_tail
    if one.log and one.lines:
        explained = source_lines.explain(one.log, one.lines, one.folders)
        place, text = explained.source, explained.text
    shown = _shown(place, source)
    if shown != place:
        text = text.replace(place.rpartition(":")[0], shown.rpartition(":")[0])
    return dataclasses.replace(
        found,
        program=result.program,
        code=_code_of(result, found),
        reason=_reason_of(result, found),
        errno=found.errno or result.errno,
        source=shown if _has_number(shown) else found.source,
        explanation=text or found.explanation,
        object=result.object,
        log=result.log,
        note=_LOADED_AGAIN if one.ran_now else "",
    )


def _code_of(result: ProgramResult, found: Rejection) -> str:
    # An optional program is excused by `verify`, and not by the test that failed.
    usable = result.code and result.code not in (Code.OPTIONAL, Code.DECLARED)
    return str(result.code) if usable else found.code


def _reason_of(result: ProgramResult, found: Rejection) -> str:
    usable = result.reason and result.code not in (Code.OPTIONAL, Code.DECLARED)
    return result.reason if usable else found.reason


def at_lines(
    found: Rejection,
    printed: PrintedFailure,
    lines: Sequence[LineInfo],
    folders: Sequence[Path],
    source: Callable[[str], str] = str,
) -> Rejection:
    """Return a rejection with the line of C of the instruction that the test printed, if it did.

    `lines` are those of the program in the object's BTF. See `with_verified` for `source`.
    """
    log = "\n".join(printed.log)
    if not lines or verifierlog.rejection(log).instruction is None:
        return found
    explained = source_lines.explain(log, lines, folders)
    place, text = _shown(explained.source, source), explained.text
    if not _has_number(place):
        return found
    text = text.replace(explained.source.rpartition(":")[0], place.rpartition(":")[0])
    return dataclasses.replace(found, source=place, explanation=text)


def _shown(place: str, source: Callable[[str], str]) -> str:
    name, colon, number = place.rpartition(":")
    return f"{source(name)}:{number}" if colon and number.isdecimal() else place
