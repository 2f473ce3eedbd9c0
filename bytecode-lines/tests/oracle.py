# Writes the lines of code objects as Python itself reports them. Runs under any CPython from 2.7 on:
#
#     python oracle.py OUTPUT <SOURCES
#
# Standard input has the path of a source in each line. This compiles each source to
# OUTPUT/<number>.pyc, and writes to OUTPUT/<number>.expected what `dis` and the code objects report,
# marshalled in a format that every Python reads. Sources that do not compile are left out.
import dis
import itertools
import marshal
import os
import py_compile
import sys
import types


def describe(code):
    """Describe a code object and all code objects within it, the outer ones first."""
    version = sys.version_info[:2]
    positions = None
    lines = []
    if version >= (3, 11):
        # The number of consecutive code units with the same position.
        groups = itertools.groupby(code.co_positions())
        positions = [(len(list(units)), position) for position, units in groups]
    elif version == (3, 10):
        lines = list(code.co_lines())
    starts = list(dis.findlinestarts(code))
    table = code.co_linetable if version >= (3, 10) else code.co_lnotab
    found = [
        {
            "name": code.co_name,
            "qualified_name": getattr(code, "co_qualname", None),
            "first_line": code.co_firstlineno,
            "arguments": code.co_argcount,
            "keyword_only": getattr(code, "co_kwonlyargcount", 0),
            "flags": code.co_flags,
            "table": table,
            "code_length": len(code.co_code),
            "starts": starts,
            "lines": lines,
            "positions": positions,
        }
    ]
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            found += describe(value)
    return found


def main(output, sources):
    for number, source in enumerate(sources):
        pyc = os.path.join(output, "%d.pyc" % number)
        try:
            py_compile.compile(source, pyc, doraise=True)
        except Exception:
            continue
        with open(pyc, "rb") as file:
            file.read(8 if sys.version_info < (3,) else 12 if sys.version_info < (3, 7) else 16)
            code = marshal.load(file)
        with open(os.path.join(output, "%d.expected" % number), "wb") as file:
            marshal.dump(describe(code), file, 0)


if __name__ == "__main__":
    main(sys.argv[1], [line.rstrip("\n") for line in sys.stdin])
