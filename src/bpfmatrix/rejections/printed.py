"""What a failed test printed of eBPF programs that did not load, as the loaders' libraries say it.

`find` takes the output of a test and gives a `PrintedFailure` for each program or map. The forms
are those of cilium/ebpf, libbpf, aya and bcc, and of this project's own tests. A program that was
optional, and did not load, may be in the output of a test that passed: only that of failed tests
should be given.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

__all__ = ["PrintedFailure", "find", "has_verifier_words", "says_more", "without_logs"]

# The names of errors by what Go, glibc and musl print of them, in small letters. musl and Go have
# words of their own for some: "Out of memory" is glibc's "Cannot allocate memory".
_ERRNOS = {os.strerror(number).lower(): name for number, name in errno.errorcode.items()} | {
    "argument list too long": "E2BIG",
    "out of memory": "ENOMEM",
    "not supported": "ENOTSUPP",
    "operation not supported": "EOPNOTSUPP",
    "unknown error 524": "ENOTSUPP",
}
_LOG_LINES = 5000
# Of a longer line, only the beginning is read: a search may be quadratic in a line's length.
_MOST_COLUMNS = 4096
# So many programs and maps of each library are found in an output.
_MOST_FOUND = 100
# A shorter log is shown as it is.
_LEAST_LOG = 4
_HIDDEN = "(the verifier's log"
_NEWLINE = "\\n"
_OF_LOGS = ("load program", "Verifier output", "verifier_log", "PROG LOAD LOG")
# What lines of the verifier have, and those of other programs rarely.
_VERIFIER = re.compile(
    r"\d+: \([0-9a-f]{2}\) |processed \d+ insns|\b(?:R\d+|arg#\d+|insns?|subprogs?|func|kfunc|"
    r"helper|back-edge|map_value|stack|ctx|BTF|BPF|verifier|pointer|bpf_\w+)\b"
)
# Where a Go test printed a line, and the lines around what it and testify's assertions say.
_GO_PLACE = re.compile(r"\w+\.go:\d+:")
_GO_FRAME = re.compile(
    r"(?:===|---) |Error Trace:|Error:\s+Received unexpected error:|Test:\s|\S+\.go:\d+$"
)
# A line of the kernel's log, with its time, which the console mixes into an output.
_KERNEL_LOG = re.compile(r"\[ *\d+\.\d{6}\] ")
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True)
class PrintedFailure:
    """A program or a map that did not load, as its loader's library says it."""

    loader: str
    """The library: `libbpf`, `cilium-ebpf`, `aya` or `bcc`."""
    step: str
    """Where it failed, as docs/loaders.md names it: `load`, `map`, `relocate` or `open`."""
    program: str = ""
    """The name of the C function; empty if it was not printed."""
    errno: str = ""
    """The name of the kernel's error, such as `EACCES`; empty if it was not printed."""
    log: tuple[str, ...] = ()
    """The lines of the verifier's log that were printed."""
    is_whole: bool = False
    """Whether these are all lines of it."""
    words: tuple[str, ...] = ()
    """What the library said besides, line by line."""
    map: str = ""
    """The name of the map that could not be made."""


def find(output: str) -> list[PrintedFailure]:
    """Return the programs and maps that did not load, each once, in the order of the output.

    The time that it takes is linear in the length of the output.
    """
    every = (_unescaped(line) for line in output.splitlines())
    lines = [line[:_MOST_COLUMNS].rstrip() for text in every for line in text.splitlines() or [""]]
    found = [one for finder in _FINDERS for one in islice(finder(lines), _MOST_FOUND)]
    return _merged(found)


def without_logs(output: str) -> str:
    """Return an output in which each verifier log is replaced by its number of lines."""
    output = _OWN_WHOLE.sub(
        lambda log: f"{_HIDDEN} of {log[1]}: {log[0].count(chr(10)) - 1} lines)", output
    )
    logs = [one.log for one in find(output) if len(one.log) >= _LEAST_LOG]
    known = {line.strip() for log in logs for line in log}
    left: list[str] = []
    for is_log, group in groupby(output.splitlines(), lambda line: line.strip() in known):
        lines = list(group)
        hidden = is_log and len(lines) >= _LEAST_LOG
        left += [f"{_HIDDEN}: {len(lines)} lines)"] if hidden else lines
    return "\n".join(left)


def has_verifier_words(lines: Iterable[str]) -> bool:
    """Whether lines are of a verifier's log, as far as their words tell."""
    return any(map(_VERIFIER.search, lines))


def says_more(reason: str, output: str) -> bool:
    """Whether a failed test says anything else than which programs did not load."""
    if not find(reason):
        return True
    every = (_GO_PLACE.sub("", line.strip(), count=1) for line in without_logs(output).splitlines())
    return any(_is_more(line.strip(), reason) for line in every)


def _is_more(line: str, reason: str) -> bool:
    """Whether a line of an output says anything else than which programs did not load."""
    if not line or line in reason or line.startswith(("libbpf:", _HIDDEN)):
        return False
    around = (_GO_FRAME, _KERNEL_LOG, _OWN, _OWN_AROUND)
    if any(each.match(line) for each in around):
        return False
    return not find(line) and not has_verifier_words([line])


def _unescaped(line: str) -> str:
    """Return a line, in which a log that was printed as a quoted string has lines of its own.

    Loggers, and Rust's debug form of a string, write a newline as a backslash and an n.
    """
    end = line.rfind(_NEWLINE)
    is_quoted = end >= 0 and any(0 <= line.find(words) < end for words in _OF_LOGS)
    return _ESCAPE.sub(_escaped, line) if is_quoted else line


def _escaped(match: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t"}.get(match[1], match[1])


def _merged(found: Sequence[PrintedFailure]) -> list[PrintedFailure]:
    """Return each program once: what was printed of it last may have more of its log."""
    merged: dict[tuple[str, str], PrintedFailure] = {}
    for one in found:
        key = (one.program, one.map)
        if not one.program and not one.map:
            # Printed once more, without the name: cilium/ebpf's VerifierError has none.
            named = [k for k, known in merged.items() if k[0] and known.errno == one.errno]
            key = named[-1] if named else key
        known = merged.get(key)
        if known is None or (len(one.log), one.is_whole) > (len(known.log), known.is_whole):
            merged[key] = one if known is None else _named(one, known)
    return list(merged.values())


def _named(more: PrintedFailure, known: PrintedFailure) -> PrintedFailure:
    return PrintedFailure(
        more.loader,
        known.step if known.step != "load" else more.step,
        known.program,
        more.errno or known.errno,
        more.log,
        more.is_whole,
        known.words or more.words,
        known.map,
    )


def _having(lines: Sequence[str], *words: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that have one of these words, with their numbers from 0."""
    for number, line in enumerate(lines):
        if any(word in line for word in words):
            yield number, line


def _errno(text: str) -> str:
    """Return the name of an error, given its words, its number, or its name itself."""
    text = text.strip().strip("-\"'").lower()
    if text.upper() in errno.errorcode.values():
        return text.upper()
    if text.isdigit():
        return "ENOTSUPP" if text == "524" else errno.errorcode.get(int(text), "")
    return _ERRNOS.get(text, "")


# cilium/ebpf. Errors are chains in one line: collection.go, prog.go, and internal/errors.go, whose
# VerifierError is followed by the last one or two lines of the log, or with %+v by all of them.
_CILIUM_LOAD = re.compile(
    r"(?:\bprogram (\S+): )?(?<!Failed to )(?:can't )?load program: ([^:()]+?)(?:: (.*)|:)?$"
)
# What it says in place of the kernel's error, if it poisoned the instruction (prog.go).
_CILIUM_CAUSES = ("bad CO-RE relocation", "unknown kfunc")
_CILIUM_OTHER = re.compile(
    r"\bprogram (\S+): (?=apply CO-RE|fixing up kfuncs|resolve |attach [A-Z]\w*/|"
    r"load (?:BTF|kernel)|load target BTF|marshal ext_infos|map \S+: |set KConfig|populat)(.*)"
)
_CILIUM_MAP = re.compile(r"\bmap (\S+): (?:can't create map|map create|create map): (.*)")
_OMITTED = re.compile(r"\((\d+) line\(s\) omitted\)")
_INSTRUCTION_FIRST = re.compile(r"(\d+: \([0-9a-f]{2}\) .*?)(?:: )((?:R\d|invalid|func ').*)")
_LOG_LINE = re.compile(r"\d+: \([0-9a-f]{2}\) |processed \d+ insns")
_GO_LOG_LINE = re.compile(r"\s*[\w./-]+\.go:\d+: ")
_GO_TEST_LINE = re.compile(r"\s*(?:---|===|FAIL|PASS|ok)\b|\s*(?:---|===) ")


def _cilium(lines: Sequence[str]) -> Iterator[PrintedFailure]:
    for number, line in _having(lines, "program", "map "):
        if match := _CILIUM_LOAD.search(line):
            name, words, rest = match[1] or "", match[2].strip(), match[3] or ""
            kind = _errno(words)
            if not kind and words not in _CILIUM_CAUSES:
                continue
            omitted = _OMITTED.search(rest)
            log = _summary(_OMITTED.sub("", rest))
            if not omitted:
                more, omitted = _indented(lines, number)
                # Before v0.10, the whole log follows the error; else it may be the test's own text.
                if not rest or any(map(_LOG_LINE.match, more)):
                    log += more
            whole = bool(log) and not omitted
            yield PrintedFailure("cilium-ebpf", "load", name, kind, log, whole)
        elif match := _CILIUM_MAP.search(line):
            owner = re.search(r"\bprogram (\S+): ", line)
            kind = _errno(match[2].split(":")[0].split("(")[0])
            words = (match[0].strip(),)
            program = owner[1] if owner else ""
            yield PrintedFailure("cilium-ebpf", "map", program, kind, words=words, map=match[1])
        elif match := _CILIUM_OTHER.search(line):
            yield PrintedFailure("cilium-ebpf", "relocate", match[1], words=(match[2].strip(),))


def _summary(text: str) -> tuple[str, ...]:
    """Return the lines of the log in the one line of a VerifierError: one, or two."""
    text = text.strip()
    if text.count('"') % 2:  # the line of a logger, such as err="..."
        text = text.removesuffix('"').strip()
    if match := _INSTRUCTION_FIRST.fullmatch(text):
        return match[1], match[2]
    return (text,) if text else ()


def _indented(lines: Sequence[str], number: int) -> tuple[tuple[str, ...], re.Match[str] | None]:
    """Return the lines of a log that are printed with %+v, below the line of this number.

    Also return the match of the line that says how many are left out.
    """
    found: list[str] = []
    omitted = None
    for line in lines[number + 1 : number + 1 + _LOG_LINES]:
        if not line[:1].isspace() or _GO_LOG_LINE.match(line) or _GO_TEST_LINE.match(line):
            break
        if match := _OMITTED.fullmatch(line.strip()):
            omitted = match
        else:
            found.append(line)
    # The testing package indents by spaces, and cilium/ebpf by one tab within them.
    texts = [line.partition("\t")[2] if "\t" in line else line.strip() for line in found]
    return tuple(texts), omitted


# libbpf: bpf_object_load_prog of libbpf.c, whose lines a program may print without the prefix.
# Before 0.8: load_program, which names the program only after the log.
_LIBBPF_FAILED = re.compile(r"prog '([^']+)': BPF program load failed: (.+)")
_LIBBPF_OLD_FAILED = re.compile(r"libbpf: load bpf program failed: (.+)")
_LIBBPF_OLD_NAME = re.compile(r"libbpf: failed to load program '([^']+)'")
_LIBBPF_BEGIN = re.compile(r"-- BEGIN (?:PROG LOAD|DUMP) LOG --")
_LIBBPF_END = re.compile(r"-- END (?:PROG LOAD )?LOG --")
_LIBBPF_MAP = re.compile(
    r"map '([^']+)': failed to create(?: \(type \d+\))?: ?([^(]*?)(?:\((-\d+)\))?$"
)
_LIBBPF_RELOCATION = re.compile(
    r"prog '([^']+)': (relo #\d+: .*|failed to relo.*|failed to find kernel BTF .*|"
    r"missing BPF prog type.*|no BTF-based attach target .*)"
)
_LIBBPF_EXTERN = re.compile(r"(extern \([\w ]+\) '[^']+'.*|extern '[^']+' \(strong\).*)")
_PREFIX = "libbpf:"


def _libbpf(lines: Sequence[str]) -> Iterator[PrintedFailure]:
    failed: set[str] = set()
    others: dict[str, list[str]] = {}
    externs: list[str] = []
    for number, line in _having(lines, "prog '", "program failed", "map '", "extern "):
        if match := _LIBBPF_FAILED.search(line):
            log, whole = _libbpf_log(lines, number)
            failed.add(match[1])
            kind = _errno(match[2])
            yield PrintedFailure("libbpf", "load", match[1], kind, log, whole)
        elif match := _LIBBPF_OLD_FAILED.search(line):
            log, whole = _libbpf_log(lines, number)
            after = lines[number : number + len(log) + 10]
            names = (found[1] for text in after if (found := _LIBBPF_OLD_NAME.search(text)))
            # It is the name of the section, or that of the function.
            name = next(names, "").rpartition("/")[2]
            yield PrintedFailure("libbpf", "load", name, _errno(match[1]), log, whole)
        elif match := _LIBBPF_MAP.search(line):
            kind = _errno(match[3] or match[2])
            told = (line.rpartition(_PREFIX)[2].lstrip(),)
            yield PrintedFailure("libbpf", "map", errno=kind, words=told, map=match[1])
        elif match := _LIBBPF_RELOCATION.search(line):
            others.setdefault(match[1], []).append(match[2])
        elif match := _LIBBPF_EXTERN.search(line):
            externs.append(match[1])
    for program, words in others.items():
        if program not in failed:
            yield PrintedFailure("libbpf", "relocate", program, words=tuple(words))
    if externs:
        yield PrintedFailure("libbpf", "open", words=tuple(externs))


def _libbpf_log(lines: Sequence[str], number: int) -> tuple[tuple[str, ...], bool]:
    """Return the log that begins within the next lines, and whether its end was found, too."""
    begin = next(
        (n for n in range(number, min(number + 3, len(lines))) if _LIBBPF_BEGIN.search(lines[n])),
        None,
    )
    if begin is None:
        return (), False
    found: list[str] = []
    for line in lines[begin + 1 : begin + 1 + _LOG_LINES]:
        if _LIBBPF_END.search(line):
            return tuple(found), True
        if found or line.strip() not in ("", "libbpf:"):
            found.append(line)
    return tuple(found), False


# aya: ProgramError::LoadError of programs/mod.rs. It names no program. `unwrap` prints the debug
# form, in which the log is as it is, too.
_AYA = re.compile(
    r"the BPF_PROG_LOAD syscall (?:returned|failed)(.*?)\.? Verifier output: ?(.*)|"
    r"LoadError \{ io_error: .*?message: \"([^\"]*)\".*?verifier_log: ?(.*)"
)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_RUST_END = re.compile(
    r"note: run with|stack backtrace:|Caused by:|---- |failures:|test result:|test \S+ \.\.\.|"
    r"thread '|Location:"
)
_STATISTICS = re.compile(r"processed \d+ insns")


def _aya(lines: Sequence[str]) -> Iterator[PrintedFailure]:
    for number, line in _having(lines, "Verifier output:", "verifier_log:"):
        if not (match := _AYA.search(line)):
            continue
        number_of = _OS_ERROR.search(match[1] or "")
        kind = _errno(number_of[1] if number_of else match[3] or match[1] or "")
        log = [match[2] or match[4] or ""]
        whole = False
        for text in lines[number + 1 : number + 1 + _LOG_LINES]:
            if _RUST_END.match(text.strip()):
                break
            log.append(text.removesuffix(" }"))
            if _STATISTICS.match(text):
                whole = True
                break
        kept = tuple(log[1:] if not log[0].strip() else log)
        yield PrintedFailure("aya", "load", "", kind, kept, whole)


# bcc: bpf_prog_load_xattr of libbpf.c prints the log, and the exception of table.py the name.
_BCC = re.compile(r"bpf: Failed to load program: (.+)")
_BCC_NAME = re.compile(r"Failed to load BPF program b?'?([\w.]+)'?: (.+)")


def _bcc(lines: Sequence[str]) -> Iterator[PrintedFailure]:
    for number, line in _having(lines, "bpf: Failed"):
        if not (match := _BCC.search(line)):
            continue
        log: list[str] = []
        name = ""
        for text in lines[number + 1 : number + 1 + _LOG_LINES]:
            if named := _BCC_NAME.search(text):
                name = named[1]
                break
            log.append(text)
        ends = [n for n, text in enumerate(log) if _STATISTICS.match(text)]
        if ends:
            log = log[: ends[0] + 1]
        yield PrintedFailure("bcc", "load", name, _errno(match[1]), tuple(log), bool(ends))


# This project's own tests: support/internal/bpftest/rejection.go.
_OWN = re.compile(r"rejected: program (\S+) of \S+: (.+)")
_OWN_BEGIN = re.compile(r"----- verifier log: (\S+) -----")
_OWN_END = "----- end of verifier log -----"
_OWN_WHOLE = re.compile(rf"{_OWN_BEGIN.pattern}\n.*?{_OWN_END}", re.DOTALL)
_OWN_AROUND = re.compile(rf"{_OWN_BEGIN.pattern}|{_OWN_END}")


def _own(lines: Sequence[str]) -> Iterator[PrintedFailure]:
    kinds = {match[1]: _errno(match[2]) for line in lines if (match := _OWN.search(line))}
    for number, line in _having(lines, "----- verifier log: "):
        if match := _OWN_BEGIN.search(line):
            own: list[str] = []
            for text in lines[number + 1 : number + 1 + _LOG_LINES]:
                if _OWN_END in text:
                    break
                own.append(text.strip())
            name = match[1]
            kind = kinds.get(name, "")
            yield PrintedFailure("cilium-ebpf", "load", name, kind, tuple(own), is_whole=True)


_FINDERS: tuple[Callable[[Sequence[str]], Iterator[PrintedFailure]], ...] = (
    _own,
    _cilium,
    _libbpf,
    _aya,
    _bcc,
)
