"""Links of the pages that lead out of the site: `mkdocs` calls this for each page.

On GitHub, a relative link to any file of the repository works. The site has only the pages of
docs/. So a link to another file, such as `../src/bpfmatrix/guest/init` or a file of an example
project, is replaced by the file's address in the repository. A link to a file that does not exist
is left as it is, and a strict build ends with it.
"""

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Return the page's text with the links that its site can follow."""
    pages = {file.src_uri for file in files if file.inclusion.is_included()}
    return rewritten(markdown, page.file.src_uri, pages, config.repo_url or "")


def rewritten(text: str, page: str, pages: set[str], repository: str) -> str:
    """Return the text of a page (`guides/go.md`) with links out of `pages` made absolute.

    `pages` are the files of the site, relative to docs/. `repository` is its URL, without a slash
    at the end.
    """

    def replaced(link: re.Match[str]) -> str:
        path = _normal(PurePosixPath("docs", page).parent / link["target"])
        if path.startswith("docs/") and path.removeprefix("docs/") in pages:
            return link[0]
        if not (ROOT / path).exists():
            return link[0]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{link['before']}{repository}/{kind}/main/{path}{link['anchor'] or ''})"

    return _LINK.sub(replaced, text)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part not in (".", ".."):
            parts.append(part)
    return "/".join(parts)
