"""The pages of the documentation, which messages and written files name by their addresses.

A user's project has no folder `docs`, so the path of a page is not enough.
"""

__all__ = ["PROJECT", "page"]

PROJECT = "bpfmatrix/bpfmatrix"
"""The repository on GitHub."""


def page(name: str) -> str:
    """Return the address of a page, such as `verify.md`, of the newest version."""
    return f"https://github.com/{PROJECT}/blob/main/docs/{name}"
