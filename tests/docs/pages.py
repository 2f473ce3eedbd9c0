"""The pages of the documentation."""

from pathlib import Path

from tests.tool import REPOSITORY

_FOLDERS = (
    ".",
    "docs",
    "docs/guides",
    "docs/sessions",
    "ebpf",
    "support",
    "tests/long",
    "tests/fresh",
    "tests/soak",
)
PAGES = tuple(
    page
    for folder in _FOLDERS
    for page in sorted((REPOSITORY / folder).glob("*.md"))
    if page.name != "CHANGELOG.md"
)


def page_id(page: Path) -> str:
    """Return the name of a page for the name of a test: `docs/guides/go.md`."""
    return str(page.relative_to(REPOSITORY))
