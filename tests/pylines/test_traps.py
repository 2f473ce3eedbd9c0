"""What is known to go wrong with lines, in code that each version of CPython compiled."""

import marshal

import pytest

from pylines import Code, LineMap, lines_of
from pylines.code import IMPLICIT_RETURN, NO_LINE, NO_TABLE, NOT_STARTED, OffsetError
from pylines.tables import Range
from tests.pylines import agreement
from tests.pylines.conftest import FIXTURES, VERSIONS, functions

every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda v: f"{v[0]}.{v[1]}")


def line_with(text: str, source: list[str], after: int = 0) -> int:
    return next(number for number, line in enumerate(source) if number > after and text in line)


def all_lines(code: Code) -> list[int | None]:
    return [line for _, line in code.lines.starts()]


@every_version
def test_lines_are_what_that_python_said(version: tuple[int, int]) -> None:
    said = marshal.loads((FIXTURES / f"traps.{version[0]}.{version[1]}.said").read_bytes())
    codes = list(functions(version).values())
    assert len(codes) == len(said)
    for code, expected in zip(codes, said, strict=True):
        agreement.compare_code(code, agreement.as_text(expected))


@every_version
def test_qualified_names(version: tuple[int, int]) -> None:
    names = {"<module>", "generator", "Outer.Inner.method", "Outer.Inner.method.<locals>.local"}
    assert names <= set(functions(version))


@every_version
def test_an_implicit_return_is_said_to_be_one(
    version: tuple[int, int], source_lines: list[str]
) -> None:
    code = functions(version)["branch"]
    place = code.lines.at(code.code_length - (1 if version < (3, 0) else 2))
    # Later versions give it the line of the statement before it on each way there.
    assert place.line == line_with("flag.other()", source_lines)
    assert place.note == (IMPLICIT_RETURN if version < (3, 10) else "")


@every_version
def test_a_loop_s_end_up_to_3_9_counts_to_its_last_line(
    version: tuple[int, int], source_lines: list[str]
) -> None:
    code = functions(version)["loop"]
    if version < (3, 10):
        place = code.lines.at(code.code_length - 1)
        assert place.note == IMPLICIT_RETURN
        assert place.line == line_with("count -= 1", source_lines)
    else:
        notes = {code.lines.at(offset).note for offset in range(code.code_length)}
        assert IMPLICIT_RETURN not in notes


@every_version
def test_a_written_return_is_none(version: tuple[int, int], source_lines: list[str]) -> None:
    code = functions(version)["written_return"]
    place = code.lines.at(code.code_length - 1)
    assert (place.line, place.note) == (
        line_with("return", source_lines, line_with("written_return", source_lines)),
        "",
    )


@every_version
def test_lines_that_go_backwards(version: tuple[int, int], source_lines: list[str]) -> None:
    code = functions(version)["backwards"]
    lines = [line for line in all_lines(code) if line is not None]
    call = line_with("return function(", source_lines)
    assert max(lines) > call
    # Until 3.6 tables could not go backwards; until 3.8 calls had the line of their last argument.
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
    # Python 2 never made functions of those of lists.
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
def test_a_line_of_more_bytes_than_one_pair_can_say(
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
def test_an_offset_behind_the_code_is_an_error(version: tuple[int, int], beyond: int) -> None:
    code = functions(version)["loop"]
    with pytest.raises(OffsetError, match="is outside of the code, of"):
        code.lines.at(code.code_length + beyond)


@every_version
@pytest.mark.parametrize("offset", [-1, -2])
def test_a_frame_that_has_not_started_is_at_its_first_line(
    version: tuple[int, int], offset: int
) -> None:
    code = functions(version)["generator"]
    place = code.lines.at(offset)
    assert (place.line, place.note) == (code.first_line, NOT_STARTED)


def test_an_empty_table_gives_the_first_line_and_says_so() -> None:
    code = stripped(functions((3, 11))["loop"], b"")
    assert (code.lines.at(4).line, code.lines.at(4).note) == (code.first_line, NO_TABLE)
    # Up to 3.9, that is the table of code in one line.
    old = stripped(functions((3, 9))["loop"], b"")
    assert (old.lines.at(4).line, old.lines.at(4).note) == (old.first_line, "")


def stripped(code: Code, table: bytes) -> Code:
    fields = {name: getattr(code, name) for name in code.__dataclass_fields__}
    return Code(**{**fields, "table": table})


def test_code_without_columns_has_its_lines() -> None:
    # As `python -X no_debug_ranges` compiles: entries of the kind without columns.
    code = stripped(functions((3, 11))["loop"], bytes([0xE8, 0, 0xE9, 2]))
    assert lines_of(code).at(0).line == code.first_line
    assert lines_of(code).at(2).line == code.first_line + 1
    assert (lines_of(code).at(2).column, lines_of(code).at(2).end_column) == (None, None)


def test_instructions_without_a_line_say_so() -> None:
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
