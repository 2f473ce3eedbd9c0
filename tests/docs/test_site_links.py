"""Links of the site: those to its own pages stay, those to other files lead to the repository."""

import pytest
from docs.site_links import rewritten

PAGES = {"verify.md", "guides/go.md", "guides/index.md"}
REPOSITORY = "https://git.example/tool"


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("guides/go.md", "../verify.md#loaders", "../verify.md#loaders"),
        ("verify.md", "guides/go.md", "guides/go.md"),
        ("verify.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("verify.md", "#loaders", "#loaders"),
        ("verify.md", "../README.md#install", f"{REPOSITORY}/blob/main/README.md#install"),
        ("guides/go.md", "../examples/go", f"{REPOSITORY}/tree/main/docs/examples/go"),
        ("guides/go.md", "../../noxfile.py", f"{REPOSITORY}/blob/main/noxfile.py"),
        # A strict build ends with this one.
        ("verify.md", "no-such-page.md", "no-such-page.md"),
    ],
)
def test_a_link(page: str, link: str, expected: str) -> None:
    text = f"see [this]({link}), please"
    assert rewritten(text, page, PAGES, REPOSITORY) == f"see [this]({expected}), please"
