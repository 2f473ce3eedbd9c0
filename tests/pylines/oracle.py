# What Python itself says of the lines of its code. Runs under any CPython from 2.7 on:
#
#     python oracle.py OUTPUT <SOURCES
#
# compiles each source, of which standard input has a line each, to OUTPUT/<number>.pyc, and writes
# to OUTPUT/<number>.said what `dis` and the code objects say, marshalled in a form that every Python
# reads. What does not compile is left out.
import dis
import itertools
import marshal
import os
import py_compile
import sys
import types


def said(code):
    """Describe a code object and those within it, the outer ones first."""
    version = sys.version_info[:2]
    positions = None
    lines = []
    if version >= (3, 11):
        # How many code units in a row have the same.
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
            found += said(value)
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
        with open(os.path.join(output, "%d.said" % number), "wb") as file:
            marshal.dump(said(code), file, 0)


if __name__ == "__main__":
    main(sys.argv[1], [line.rstrip("\n") for line in sys.stdin])
