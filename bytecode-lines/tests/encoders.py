"""Encodes ranges as line tables, as CPython's compilers do: the opposite of `tables`."""

from __future__ import annotations

from bytecode_lines.tables import Range


def lnotab(ranges: list[Range], first_line: int, signed: bool) -> bytes:
    """Encode as assemble_lnotab() of Python/compile.c did up to 3.9."""
    pairs: list[tuple[int, int]] = []
    offset, line = 0, first_line
    least, most = (-128, 127) if signed else (0, 255)
    for range in ranges:
        assert range.line is not None
        code, lines = range.start - offset, range.line - line
        offset, line = range.start, range.line
        while code > 255:
            pairs.append((255, 0))
            code -= 255
        while not least <= lines <= most:
            step = most if lines > 0 else least
            pairs.append((code, step))
            code, lines = 0, lines - step
        if code or lines:
            pairs.append((code, lines))
    return b"".join(bytes((code, lines & 255)) for code, lines in pairs)


def line_table(ranges: list[Range], first_line: int) -> bytes:
    """Encode as assemble_line_range() did in 3.10."""
    pairs: list[tuple[int, int]] = []
    line = first_line
    for range in ranges:
        length = range.end - range.start
        lines = -128
        if range.line is not None:
            lines, line = range.line - line, range.line
            while not -127 <= lines <= 127:
                step = 127 if lines > 0 else -127
                pairs.append((0, step))
                lines -= step
        while length > 254:
            pairs.append((254, lines))
            length -= 254
            lines = -128 if range.line is None else 0
        pairs.append((length, lines))
    return b"".join(bytes((length, lines & 255)) for length, lines in pairs)


def location_table(ranges: list[Range], first_line: int) -> bytes:
    """Encode as write_location_info_entry() of Python/assemble.c does from 3.11 on."""
    out = bytearray()
    line = first_line
    for range in ranges:
        units = (range.end - range.start) // 2
        while units:
            part = min(units, 8)
            units -= part
            lines = 0 if range.line is None else range.line - line
            line += lines
            out += _entry(range, part, lines)
    return bytes(out)


def _entry(range: Range, units: int, lines: int) -> bytes:
    def first(kind: int) -> bytes:
        return bytes((0x80 | kind << 3 | units - 1,))

    _, _, line, end_line, column, end_column = range
    if line is None:
        return first(15)
    assert end_line is not None
    if column is None and end_column is None and end_line == line:
        return first(13) + _signed(lines)
    if column is not None and end_column is not None and end_line == line:
        width = end_column - column
        if lines == 0 and column < 80 and 0 <= width < 16:
            return first(column >> 3) + bytes(((column & 7) << 4 | width,))
        if 0 <= lines <= 2 and column < 128 and end_column < 128:
            return first(10 + lines) + bytes((column, end_column))
    columns = [0 if value is None else value + 1 for value in (column, end_column)]
    return first(14) + _signed(lines) + b"".join(map(_unsigned, (end_line - line, *columns)))


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value >= 64:
        out.append(64 | value & 63)
        value >>= 6
    return bytes((*out, value))


def _signed(value: int) -> bytes:
    return _unsigned(-value << 1 | 1 if value < 0 else value << 1)
