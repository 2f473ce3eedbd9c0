"""The blocks of pages that show files: what is cut out of a file, and where it is put."""

from pathlib import Path

import pytest

from docs import file_blocks

TEXT = "one\n\ttwo {\n\t\tthree\n\t}\nfour\n"


def test_a_part_of_a_file() -> None:
    path = Path("a.c")
    assert file_blocks.excerpt(TEXT, None, None, path) == TEXT
    assert file_blocks.excerpt(TEXT, "two", None, path) == "\ttwo {\n\t\tthree\n\t}\nfour\n"
    assert file_blocks.excerpt(TEXT, "two", "}", path) == "\ttwo {\n\t\tthree\n\t}\n"
    assert file_blocks.excerpt(TEXT, "two", "two", path) == "\ttwo {\n"
    with pytest.raises(ValueError, match=r"a\.c: no line begins with 'five'"):
        file_blocks.excerpt(TEXT, "five", None, path)
    with pytest.raises(ValueError, match="'one'"):  # it is in front of the first line
        file_blocks.excerpt(TEXT, "four", "one", path)


def test_a_block_is_replaced_and_other_text_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(TEXT)
    page = "<!-- from a.c: `one` to `one` -->\n```c\nold\n```\n\n```c\nof its own\n```\n"
    filled = file_blocks.filled(page, tmp_path)
    assert filled == page.replace("old", "one")
    assert file_blocks.filled(filled, tmp_path) == filled
