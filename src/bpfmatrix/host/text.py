"""Small pieces of text that all messages share."""

__all__ = ["counted"]


def counted(count: int, one: str, more: str = "") -> str:
    """Return a number of things, such as `1 test` or `2 tests`; `more` is an irregular plural."""
    return f"{count} {one if count == 1 else more or one + 's'}"
