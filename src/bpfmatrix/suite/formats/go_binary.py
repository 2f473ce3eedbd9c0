"""The names of the tests in a Go test binary, read off the file: it need not be run for them.

The table of functions that Go's runtime uses for stack traces (`.gopclntab`) is in stripped
binaries too. Go refuses to build a test whose function has another signature, so each function of
the package with a test's name is a test.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

__all__ = ["chosen_tests", "declared_tests"]

# runtime.pcHeader and runtime._func, since Go 1.20: the magic number; then at 8 the numbers of
# functions and files, an unused word, and the offsets of names, units, files, tables, functions.
_MAGIC = 0xFFFFFFF1
_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_PATH = re.compile(rb"path\t(\S+)\.test\n")
# `TestX` of `example.org/m/p` or of its external tests, `example.org/m/p_test`.
_TEST = re.compile(r"(.*)\.((?:Test|Fuzz)(?![a-z])\w*)$")


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
        return _tests(_function_names(table, order), package) if package else []
    except (ELFError, OSError, ValueError, struct.error, IndexError):
        return []


def _package(info: bytes) -> str:
    """Return the import path of the tested package, from Go's build information."""
    match = _PATH.search(info)
    return match[1].decode(errors="replace") if match else ""


def _function_names(table: bytes, order: str) -> Iterator[str]:
    magic, _, _, word_bytes = struct.unpack_from(f"{order}IHBB", table)
    if magic != _MAGIC:
        return
    word = {4: "I", 8: "Q"}[word_bytes] if word_bytes in (4, 8) else "Q"
    header = struct.unpack_from(f"{order}8{word}", table, 8)
    count, names, functions = header[0], header[3], header[7]
    for number in range(count):
        (offset,) = struct.unpack_from(f"{order}I", table, functions + 8 * number + 4)
        (name,) = struct.unpack_from(f"{order}i", table, functions + offset + 4)
        start = names + name
        yield table[start : table.index(b"\0", start)].decode(errors="replace")


def _tests(names: Iterable[str], package: str) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        match = _TEST.fullmatch(name)
        # In the names of functions, the last element of an import path has its dots escaped.
        if match and unquote(match[1]).removesuffix("_test") == package.removesuffix("_test"):
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
