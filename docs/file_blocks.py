"""The blocks of code in pages that show a file, or a part of one: `invoke docs` writes them.

A comment in front of a block names the file, relative to the page, and perhaps the first and the
last line that are shown, each by what it begins with, without its indentation:

    <!-- from ../examples/go/execs/execs.go: `// New loads` to `var counter` -->

So the text of a guide is that of the project that a test runs.
"""

import re
from pathlib import Path

_BLOCK = re.compile(
    r"(?P<comment><!-- from (?P<file>\S+?)"
    r"(?:: `(?P<first>[^`]+)`(?: to `(?P<last>[^`]+)`)?)? -->\n)"
    r"(?P<fence>```\w*\n)(?P<text>.*?)(?P<end>^```$)",
    re.DOTALL | re.MULTILINE,
)


def outputs(root: Path) -> dict[Path, str]:
    """Return the pages below docs/ that show files, by their paths, as they should be.

    ValueError if a file has no such line.
    """
    pages = sorted((root / "docs").glob("*.md")) + sorted((root / "docs/guides").glob("*.md"))
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    return {page: filled(text, page.parent) for page, text in texts.items() if _BLOCK.search(text)}


def filled(text: str, folder: Path) -> str:
    """Return the text of a page in `folder` with the blocks that its comments describe."""

    def block(match: re.Match[str]) -> str:
        path = folder / match["file"]
        shown = excerpt(path.read_text(encoding="utf-8"), match["first"], match["last"], path)
        return f"{match['comment']}{match['fence']}{shown}{match['end']}"

    return _BLOCK.sub(block, text)


def excerpt(text: str, first: str | None, last: str | None, path: Path) -> str:
    """Return the lines from the one that begins with `first` to the next that begins with `last`.

    Without `first`, all lines; without `last`, those up to the end.
    """
    lines = text.splitlines(keepends=True)
    begin = _index(lines, first, 0, path) if first else 0
    end = _index(lines, last, begin, path) + 1 if last else len(lines)
    return "".join(lines[begin:end])


def _index(lines: list[str], start: str, begin: int, path: Path) -> int:
    for number, line in enumerate(lines[begin:], begin):
        if line.lstrip().startswith(start):
            return number
    raise ValueError(f"{path}: no line begins with {start!r}")
