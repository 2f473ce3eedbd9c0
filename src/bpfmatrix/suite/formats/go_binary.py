"""The names of the tests in a Go test binary, read off the file: it need not be run for them.

The table of functions that Go's runtime uses for stack traces (`.gopclntab`) is in stripped
binaries too. Go refuses to build a test whose function has another signature, so each function of
the package with a test's name is a test, if it is in a file for tests.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

__all__ = ["chosen_tests", "declared_tests"]

# runtime.pcHeader and runtime._func, since Go 1.20: the magic number; then at 8 the numbers of
# functions and files, an unused word, and the offsets of names, units, files, tables, functions.
# A function's name is at 4, its table of files by its instructions at 20, its unit at 32.
_MAGIC = 0xFFFFFFF1
_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_PATH = re.compile(rb"path\t(\S+)\.test\n")
# `TestX` of `example.org/m/p` or of its external tests, `example.org/m/p_test`.
_TEST = re.compile(r"(.*)\.((?:Test|Fuzz)(?![a-z])\w*)$")
_NO_FILE = 0xFFFFFFFF


class _Function(NamedTuple):
    name: str
    is_of_test: Callable[[], bool]
    """Whether it has code of a `_test.go` file."""


def declared_tests(path: Path) -> list[str]:
    """Return the tests of a binary, in the order of their functions; empty if it can't be read."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            sections = filter(None, map(elf.get_section_by_name, _SECTIONS))
            table = next((section.data() for section in sections), b"")
            info = elf.get_section_by_name(".go.buildinfo")
            package = _package(info.data()) if info else ""
            order = "<" if elf.little_endian else ">"
        return _tests(_functions(table, order), package) if package else []
    except (ELFError, OSError, ValueError, struct.error, IndexError):
        return []


def _package(info: bytes) -> str:
    """Return the import path of the tested package, from Go's build information."""
    match = _PATH.search(info)
    return match[1].decode(errors="replace") if match else ""


def _functions(table: bytes, order: str) -> Iterator[_Function]:
    magic, _, _, word_bytes = struct.unpack_from(f"{order}IHBB", table)
    if magic != _MAGIC:
        return
    word = {4: "I", 8: "Q"}[word_bytes] if word_bytes in (4, 8) else "Q"
    header = struct.unpack_from(f"{order}8{word}", table, 8)
    count, names, units, files, tables, functions = header[0], *header[3:]
    for number in range(count):
        (offset,) = struct.unpack_from(f"{order}I", table, functions + 8 * number + 4)
        at = functions + offset
        name, by_instruction, unit = struct.unpack_from(f"{order}i12xI8xI", table, at + 4)

        def of_test(by_instruction: int = by_instruction, unit: int = unit) -> bool:
            for index in _values(table, tables + by_instruction):
                place = units + 4 * (unit + index)
                (file,) = struct.unpack_from(f"{order}I", table, place)
                if file != _NO_FILE and _text(table, files + file).endswith("_test.go"):
                    return True
            return False

        yield _Function(_text(table, names + name), of_test)


def _text(table: bytes, start: int) -> str:
    return table[start : table.index(b"\0", start)].decode(errors="replace")


def _values(table: bytes, at: int) -> Iterator[int]:
    """Yield the values of a table of the runtime: differences, each with a count of bytes."""
    value, is_first = -1, True
    while True:
        coded, at = _number(table, at)
        if not coded and not is_first:
            return
        is_first = False
        value += -(coded >> 1) - 1 if coded & 1 else coded >> 1
        yield value
        _, at = _number(table, at)


def _number(table: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned number of variable length, and where it ends."""
    number = shift = 0
    while True:
        number |= (table[at] & 0x7F) << shift
        if table[at] < 0x80:
            return number, at + 1
        at, shift = at + 1, shift + 7


def _tests(functions: Iterable[_Function], package: str) -> list[str]:
    found: dict[str, None] = {}
    for function in functions:
        match = _TEST.fullmatch(function.name)
        # In the names of functions, the last element of an import path has its dots escaped.
        ours = match and unquote(match[1]).removesuffix("_test") == package.removesuffix("_test")
        # Code of other files may be inlined into a test, and code of a test only into tests.
        if match and ours and function.is_of_test():
            found[match[2]] = None
    return [name for name in found if name != "TestMain"]


def chosen_tests(names: Sequence[str], argv: Sequence[str]) -> list[str]:
    """Return the tests that the arguments of a binary choose: `-test.run` and `-test.skip`."""
    run, skip = _argument(argv, "test.run"), _argument(argv, "test.skip")
    try:
        chosen = [n for n in names if not run or _matches(run, n, whole=False)]
        return [n for n in chosen if not (skip and _matches(skip, n, whole=True))]
    except re.error:  # Go's expressions are not quite Python's
        return []


def _argument(argv: Sequence[str], name: str) -> str:
    found = ""
    for number, word in enumerate(argv):
        option, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and option == name:
            found = value if equals else (argv[number + 1] if number + 1 < len(argv) else "")
    return found


def _matches(pattern: str, name: str, *, whole: bool) -> bool:
    """Whether a pattern matches a test; as a `whole`, if it may not be about subtests only."""
    alternatives = [_split(one, "/") for one in _split(pattern, "|")]
    return any(
        re.search(elements[0], name) is not None
        for elements in alternatives
        if len(elements) == 1 or not whole
    )


def _split(pattern: str, separator: str) -> list[str]:
    """Split a pattern where no bracket is open, as Go's testing package does (match.go)."""
    parts, depth, escaped = [""], 0, False
    for character in pattern:
        if character == separator and not depth and not escaped:
            parts.append("")
            continue
        if not escaped:
            depth = max(0, depth + (character in "([") - (character in ")]"))
        escaped = character == "\\" and not escaped
        parts[-1] += character
    return parts
