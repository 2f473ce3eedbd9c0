"""Known difficulties with lines, in code that each version of CPython has compiled."""

from __future__ import annotations

import marshal

import pytest

import agreement
from bytecode_lines import Code, LineMap, lines_of
from bytecode_lines.code import IMPLICIT_RETURN, NO_LINE, NO_TABLE, NOT_STARTED, OffsetError
from bytecode_lines.tables import Range
from compiled import FIXTURES, VERSIONS, functions

every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda v: f"{v[0]}.{v[1]}")


def line_with(text: str, source: list[str], after: int = 0) -> int:
    return next(number for number, line in enumerate(source) if number > after and text in line)


def all_lines(code: Code) -> list[int | None]:
    return [line for _, line in code.lines.starts()]


@every_version
def test_lines_are_those_that_python_reports(version: tuple[int, int]) -> None:
    path = FIXTURES / f"traps.{version[0]}.{version[1]}.expected"
    descriptions = marshal.loads(path.read_bytes())
    codes = list(functions(version).values())
    assert len(codes) == len(descriptions)
    for code, expected in zip(codes, descriptions):
        agreement.compare_code(code, agreement.as_text(expected))


@every_version
def test_qualified_names(version: tuple[int, int]) -> None:
    names = {"<module>", "generator", "Outer.Inner.method", "Outer.Inner.method.<locals>.local"}
    assert names <= set(functions(version))


@every_version
def test_an_implicit_return_is_noted(version: tuple[int, int], source_lines: list[str]) -> None:
    code = functions(version)["branch"]
    position = code.lines.at(code.code_length - (1 if version < (3, 0) else 2))
    # Later versions give it the line of the last statement on each path to it.
    assert position.line == line_with("flag.other()", source_lines)
    assert position.note == (IMPLICIT_RETURN if version < (3, 10) else "")


@every_version
def test_the_return_after_a_loop_has_its_last_line_up_to_3_9(
    version: tuple[int, int], source_lines: list[str]
) -> None:
    code = functions(version)["loop"]
    if version < (3, 10):
        position = code.lines.at(code.code_length - 1)
        assert position.note == IMPLICIT_RETURN
        assert position.line == line_with("count -= 1", source_lines)
    else:
        notes = {code.lines.at(offset).note for offset in range(code.code_length)}
        assert IMPLICIT_RETURN not in notes


@every_version
def test_an_explicit_return_is_not_noted(version: tuple[int, int], source_lines: list[str]) -> None:
    code = functions(version)["written_return"]
    position = code.lines.at(code.code_length - 1)
    assert (position.line, position.note) == (
        line_with("return", source_lines, line_with("written_return", source_lines)),
        "",
    )


@every_version
def test_lines_that_go_backwards(version: tuple[int, int], source_lines: list[str]) -> None:
    code = functions(version)["backwards"]
    lines = [line for line in all_lines(code) if line is not None]
    call = line_with("return function(", source_lines)
    assert max(lines) > call
    # Before 3.6, lines could not decrease. Before 3.8, calls had the line of their last argument.
    assert (lines != sorted(lines)) == (version >= (3, 8))
    if version >= (3, 8):
        assert lines[-1] == call


@every_version
def test_comprehensions_are_in_their_function_from_3_12_on(
    version: tuple[int, int], source_lines: list[str]
) -> None:
    found = functions(version)
    condition = line_with("if value", source_lines)
    own = found.get("comprehension.<locals>.<listcomp>")
    # In Python 2, list comprehensions are not functions.
    assert (own is None) == (version >= (3, 12) or version < (3, 0))
    assert condition in all_lines(own or found["comprehension"])
    if own:
        assert condition not in all_lines(found["comprehension"])


@every_version
def test_generators(version: tuple[int, int], source_lines: list[str]) -> None:
    found = functions(version)
    code = found["generator"]
    assert code.flags & 0x20
    assert line_with("yield value", source_lines) in all_lines(code)
    inner = found["generator.<locals>.<genexpr>"]
    assert line_with("for inner in values)", source_lines) in all_lines(inner)
    if version >= (3, 11):
        # RETURN_GENERATOR and POP_TOP run before the first line does.
        assert code.lines.at(0).line == code.first_line


@every_version
def test_an_increment_of_more_than_one_pair(
    version: tuple[int, int], source_lines: list[str]
) -> None:
    first = line_with("def far_apart", source_lines) + 1
    second = line_with("function()", source_lines, first)
    assert second - first > 255
    assert [line for line in all_lines(functions(version)["far_apart"]) if line][-2:] == [
        first,
        second,
    ]


@every_version
def test_a_line_of_more_bytes_than_fit_into_one_pair(
    version: tuple[int, int], source_lines: list[str]
) -> None:
    code = functions(version)["long_line"]
    line = line_with("x = [x.a0", source_lines)
    assert code.lines.at(2 if version >= (3, 11) else 0).line == line
    assert code.lines.at(300).line == line
    assert code.lines.at(code.code_length - 1).line == line + 1


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13), (3, 14)])
def test_offsets_in_caches_are_those_of_their_instruction(version: tuple[int, int]) -> None:
    # The attributes of long_line: LOAD_ATTR is followed by 4 or more code units of cache.
    code = functions(version)["long_line"]
    columns = [code.lines.at(offset).column for offset in range(0, code.code_length, 2)]
    column = columns[20]
    assert column is not None
    assert columns.count(column) >= 5


@every_version
@pytest.mark.parametrize("beyond", [0, 1, 100_000])
def test_an_offset_beyond_the_code_is_an_error(version: tuple[int, int], beyond: int) -> None:
    code = functions(version)["loop"]
    with pytest.raises(OffsetError, match="is outside of the code, of"):
        code.lines.at(code.code_length + beyond)


@every_version
@pytest.mark.parametrize("offset", [-1, -2])
def test_a_frame_that_has_not_started_is_at_its_first_line(
    version: tuple[int, int], offset: int
) -> None:
    code = functions(version)["generator"]
    position = code.lines.at(offset)
    assert (position.line, position.note) == (code.first_line, NOT_STARTED)


def test_an_empty_table_gives_the_first_line_and_a_note() -> None:
    code = with_table(functions((3, 11))["loop"], b"")
    assert (code.lines.at(4).line, code.lines.at(4).note) == (code.first_line, NO_TABLE)
    # Up to 3.9, code with one line has an empty table.
    old = with_table(functions((3, 9))["loop"], b"")
    assert (old.lines.at(4).line, old.lines.at(4).note) == (old.first_line, "")


def with_table(code: Code, table: bytes) -> Code:
    fields = {name: getattr(code, name) for name in code.__dataclass_fields__}
    return Code(**{**fields, "table": table})


def test_code_without_columns_has_lines() -> None:
    # `python -X no_debug_ranges` compiles to such entries, without columns.
    code = with_table(functions((3, 11))["loop"], bytes([0xE8, 0, 0xE9, 2]))
    assert lines_of(code).at(0).line == code.first_line
    assert lines_of(code).at(2).line == code.first_line + 1
    assert (lines_of(code).at(2).column, lines_of(code).at(2).end_column) == (None, None)


def test_instructions_without_a_line_are_noted() -> None:
    lines = LineMap([Range(0, 2, None), Range(2, 4, 7, 7)], 7, 6)
    assert [(lines.at(offset).line, lines.at(offset).note) for offset in (0, 2, 4)] == [
        (None, NO_LINE),
        (7, ""),
        (None, NO_LINE),
    ]


def test_lines_of_takes_code_of_this_python() -> None:
    def here() -> int:
        return 1

    first = here.__code__.co_firstlineno
    assert lines_of(here.__code__).at(len(here.__code__.co_code) - 2).line == first + 1
