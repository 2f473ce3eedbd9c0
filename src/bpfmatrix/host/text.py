"""Words of messages: a number and its noun."""

__all__ = ["counted"]


def counted(count: int, one: str, more: str = "") -> str:
    """Return a count with its noun, such as `2 tests`; `more` is an irregular plural."""
    return f"{count} {one if count == 1 else more or one + 's'}"
