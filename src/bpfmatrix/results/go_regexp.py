r"""What Go's regular expressions refuse: `refusal` reads one as far as it has to be sure.

Test binaries of Go get the text of `--run` as it is, and only there, in a guest, would Go refuse
it. Python's own `re` is no judge: it refuses `\Q` and `\pL`, and takes `(?=`. The syntax is that of
Go's package regexp/syntax; what is not looked at here, such as ranges in classes, is left to Go.
"""

import re

__all__ = ["refusal"]

_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_FLAGS = re.compile(r"\(\?[imsU-]*(\)|:)")
_NAMED = re.compile(r"\(\?P?<\w+>")
_LOOKAROUND = re.compile(r"\(\?<?[=!]")
_CLASS_NAME = re.compile(r"\[:[^\]]*?:\]")
_LARGEST_COUNT = 1000


def refusal(text: str) -> str | None:
    """Return why Go does not take the value of -test.run; None if it does, or may do so.

    The text is one regular expression for each level of subtests, with `/` between them, and
    alternatives of them with `|`.
    """
    return next(filter(None, map(_refusal, _parts(text))), None)


def _parts(text: str) -> list[str]:
    """Split a text as Go does (`splitRegexp` in testing/match.go)."""
    parts, begin, classes, groups, at = [], 0, 0, 0, 0
    while at < len(text):
        match text[at]:
            case "[":
                classes += 1
            case "]":
                classes = max(0, classes - 1)
            case "(" if not classes:
                groups += 1
            case ")" if not classes:
                groups -= 1
            case "\\":
                at += 1
            case "/" | "|" if not classes and not groups:
                parts.append(text[begin:at])
                begin = at + 1
        at += 1
    return [*parts, text[begin:]]


def _refusal(text: str) -> str | None:
    """Return why Go does not take one regular expression."""
    at, depth = 0, 0
    repeatable = repeated = False
    while at < len(text):
        sign, count = text[at], _COUNT.match(text, at)
        if sign in "*+?" or count:
            end = count.end() if count else at + 1
            if (why := _count_refusal(count)) or not repeatable or repeated:
                return why or f"nothing before {text[at:end]} can be repeated"
            # A question mark behind it means the shortest repetition.
            at, repeated = end + text.startswith("?", end), True
            continue
        repeated = False
        if sign == "(":
            at, opened, why = _group(text, at)
            depth, repeatable = depth + opened, repeatable and not opened
        elif sign == ")":
            at, depth, repeatable = at + 1, depth - 1, True
            why = ") without (" if depth < 0 else None
        elif sign == "[":
            at, repeatable = _end_of_class(text, at), True
            why = "[ without ]" if at < 0 else None
        elif sign == "\\":
            at, why = _escape(text, at)
            repeatable = True
        else:
            at, repeatable, why = at + 1, sign != "|", None
        if why:
            return why
    return "( without )" if depth else None


def _count_refusal(count: re.Match[str] | None) -> str | None:
    if count is None:
        return None
    least, most = int(count[1]), int(count[3] or count[1])
    if least > most or most > _LARGEST_COUNT:
        return f"{count[0]} is no count of repetitions"
    return None


def _group(text: str, at: int) -> tuple[int, int, str | None]:
    """Return where the text of a group begins, 1 if one was opened, and why Go does not take it."""
    if _LOOKAROUND.match(text, at):
        return at, 0, f"Go has no {_LOOKAROUND.match(text, at)[0]}"  # type: ignore[index]
    if flags := _FLAGS.match(text, at):
        return flags.end(), int(flags[1] == ":"), None
    if named := _NAMED.match(text, at):
        return named.end(), 1, None
    return at + 1, 1, None


def _end_of_class(text: str, at: int) -> int:
    """Return the place behind a class such as `[a-z]`; -1 if it has no end."""
    at += 2 if text.startswith("[^", at) else 1
    first = at
    while at < len(text):
        if text[at] == "]" and at > first:
            return at + 1
        # After a hyphen, `[` may be the end of a range.
        name = None if text[at - 1] == "-" else _CLASS_NAME.match(text, at)
        at = name.end() if name else at + (2 if text[at] == "\\" else 1)
    return -1


def _escape(text: str, at: int) -> tuple[int, str | None]:
    """Return the place behind an escape sequence, and why Go does not take it."""
    sign = text[at + 1 : at + 2]
    if not sign:
        return at, "it ends with a backslash"
    if sign == "Q":  # literally up to \E, or else to the end
        end = text.find("\\E", at + 2)
        return (len(text) if end < 0 else end + 2), None
    if sign in "89" or (sign in "1234567" and text[at + 2 : at + 3] not in tuple("01234567")):
        return at, f"Go has no \\{sign}, which refers to a group"
    if sign in "pPx" and text.startswith("{", at + 2):
        return text.find("}", at) + 1 or len(text), None
    return at + 2, None
