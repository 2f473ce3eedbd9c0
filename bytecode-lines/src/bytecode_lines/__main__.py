"""The command `bytecode-lines`: `index PATH -o FILE`, `resolve`, `lines`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from bytecode_lines.code import Code, walk
from bytecode_lines.errors import BytecodeLinesError
from bytecode_lines.index import Index, Summary, build
from bytecode_lines.pyc import load
from bytecode_lines.resolve import Counts, Resolver, resolve_stream

__all__ = ["main", "run"]

_MAX_PROBLEMS_SHOWN = 5


def main() -> None:
    """Run the command, and exit with its status: 0, 1 for an error, 2 for wrong usage."""
    is_module = Path(sys.argv[0]).name == "__main__.py"
    try:
        run(sys.argv[1:], "python -m bytecode_lines" if is_module else "bytecode-lines")
    except BytecodeLinesError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it. What is still in the buffer is
        # dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(args: Sequence[str], program: str = "bytecode-lines") -> None:
    """Run a command with its arguments; BytecodeLinesError if it fails."""
    arguments = _parser(program).parse_args(args)
    arguments.program = program
    commands = {"index": _index, "resolve": _resolve, "lines": _lines}
    commands[arguments.command](arguments)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="Turn bytecode offsets in CPython processes into lines of source."
    )
    parser.add_argument(
        "--version", action=_ShowVersion, nargs=0, help="show the version, and exit"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    index = commands.add_parser("index", help="index the code objects of files and folders")
    index.add_argument(
        "paths",
        metavar="PATH",
        type=Path,
        nargs="+",
        help="a folder, a .py, .pyc or zip file, or a program that PyInstaller has made",
    )
    index.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        type=Path,
        required=True,
        help="the index; its folder is made if it is missing",
    )
    index.add_argument(
        "--python", metavar="X.Y", type=_version, help="index only code of this version"
    )
    resolve = commands.add_parser("resolve", help="write the source lines of samples (JSON lines)")
    resolve.add_argument(
        "samples", metavar="FILE", nargs="?", default="-", help="default: standard input"
    )
    resolve.add_argument(
        "-i", "--index", metavar="FILE", type=Path, action="append", required=True, dest="indexes"
    )
    resolve.add_argument(
        "--json", action="store_true", help="write the samples as JSON, with their lines"
    )
    lines = commands.add_parser("lines", help="show the code objects of a file and their lines")
    lines.add_argument("file", metavar="FILE", type=Path, help="a .pyc or a .py file")
    lines.add_argument(
        "--function", metavar="NAME", help="only the function with this qualified name"
    )
    lines.add_argument(
        "--json", action="store_true", help="write a line of JSON for each code object"
    )
    return parser


class _ShowVersion(argparse.Action):
    """Prints the version, which is looked up only then, as that takes time."""

    def __call__(self, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - takes time

        try:
            found = version("bytecode-lines")
        except PackageNotFoundError:
            found = f"of {Path(__file__).parent}, which is not installed"
        print(f"bytecode-lines {found}")
        sys.exit(0)


def _version(text: str) -> str:
    if not re.fullmatch(r"[23]\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text}: expected a version such as 3.13")
    return text


def _index(arguments: argparse.Namespace) -> None:
    summary = build(arguments.paths, arguments.output, arguments.python or "")
    for problem in summary.problems[:_MAX_PROBLEMS_SHOWN]:
        print(f"left out: {problem}", file=sys.stderr)
    if len(summary.problems) > _MAX_PROBLEMS_SHOWN:
        print(f"left out: {len(summary.problems) - _MAX_PROBLEMS_SHOWN} more", file=sys.stderr)
    print(f"{arguments.output}: {_summary(summary)}", file=sys.stderr)


def _summary(summary: Summary) -> str:
    text = f"{summary.codes} code objects of {summary.files} files"
    if summary.changed:
        text += f", {summary.changed} older than their source"
    if summary.collisions:
        text += f"; {summary.colliding_codes} share {summary.collisions} identities"
    return text


def _resolve(arguments: argparse.Namespace) -> None:
    # There are no reference cycles here, and looking for them would take a tenth of the time.
    gc.disable()
    indexes = [Index(path, arguments.program) for path in arguments.indexes]
    resolver = Resolver(indexes)
    with contextlib.ExitStack() as stack:
        for index in indexes:
            stack.callback(index.close)
        samples: BinaryIO = sys.stdin.buffer
        if arguments.samples != "-":
            try:
                samples = stack.enter_context(open(arguments.samples, "rb"))  # noqa: PTH123
            except OSError as error:
                raise BytecodeLinesError(f"{arguments.samples}: {error.strerror}") from None
        resolve_stream(samples, sys.stdout, resolver, arguments.json)
    counts = resolver.counts
    print(_counts(counts), file=sys.stderr)
    if counts.bad_lines:
        raise BytecodeLinesError(
            f"{counts.bad_lines} of the lines were no samples: {counts.first_bad_line}",
            'Each line is like {"identity": "12:1:0:3:9ae16a3b2f90404f", "offset": 36}.',
        )


def _counts(counts: Counts) -> str:
    text = f"{counts.frames} frames"
    for count, what in (
        (counts.unknown, "of unknown code"),
        (counts.outside, "outside of their code"),
        (counts.ambiguous, "of one of several functions"),
    ):
        if count:
            text += f", {count} {what}"
    return text


def _lines(arguments: argparse.Namespace) -> None:
    codes = list(_codes(arguments.file))
    if arguments.function is not None:
        codes = [code for code in codes if code.qualified_name == arguments.function]
        if not codes:
            raise BytecodeLinesError(f"{arguments.file} has no function {arguments.function}")
    for code in codes:
        if arguments.json:
            print(json.dumps(_described(code)))
            continue
        version = ".".join(map(str, code.version))
        print(f"{code.qualified_name}  Python {version}  {code.identity}  {code.table.hex(' ')}")
        for start, end, line, end_line, column, end_column in code.lines.ranges:
            position = f"{'-' if line is None else line}"
            if column is not None:
                position += f":{column} to {end_line}:{end_column}"
            print(f"  {start:5} to {end - 1:5}  {position}")


def _described(code: Code) -> dict[str, Any]:
    return {
        "name": code.qualified_name,
        "python": ".".join(map(str, code.version)),
        "filename": code.filename,
        "first_line": code.first_line,
        "arguments": code.arguments,
        "keyword_only": code.keyword_only,
        "flags": code.flags,
        "code_length": code.code_length,
        "table": code.table.hex(),
        "identity": str(code.identity),
        "ranges": [range._asdict() for range in code.lines.ranges],
    }


def _codes(path: Path) -> list[Code]:
    if path.suffix != ".py":
        pyc = load(path)
        return list(walk(pyc.code, pyc.version))
    try:
        return list(walk(compile(path.read_bytes(), str(path), "exec", dont_inherit=True)))
    except OSError as error:
        raise BytecodeLinesError(f"{path}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise BytecodeLinesError(f"{path}: does not compile: {error}") from None


if __name__ == "__main__":
    main()
