"""The types of kernels.yaml's values in words, for its reference and for messages."""

import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from bpfmatrix.config import value_types
from bpfmatrix.config.models import parse_matrix
from bpfmatrix.config.settings import Binary
from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = ["DURATION", "SIZE", "alternatives_of", "either", "kind_of", "with_article"]

SIZE, DURATION = "size", "duration"


def kind_of(field: FieldInfo) -> str:
    """Return the type of a key's value, in words."""
    parsers = [extra.func for extra in field.metadata if isinstance(extra, BeforeValidator)]
    if value_types.parse_size in parsers:
        return SIZE
    if value_types.parse_duration in parsers:
        return DURATION
    if parse_matrix in parsers:
        return "list of strings or mapping"
    if value_types.parse_architecture in parsers:
        return either(f"`{name}`" for name in ARCHITECTURES)
    # If the default is None, null means the same as leaving the key out.
    omitted = "`null`" if field.default is None else ""
    return either(word for word in alternatives_of(field.annotation) if word != omitted)


_PARSED = {
    value_types.parse_duration: [DURATION],
    value_types.parse_limit: ["whole number", "size", "`unlimited`"],
    value_types.parse_memlock: ["size", "`unlimited`", "`default`"],
    value_types.parse_user: ["string", "whole number"],
}
_WORDS: dict[Any, list[str]] = {
    Binary: ["path", "mapping"],
    str: ["string"],
    int: ["whole number"],
    float: ["number"],
    bool: ["`true`", "`false`"],
    Path: ["path"],
    types.NoneType: ["`null`"],
}


def alternatives_of(annotation: Any) -> list[str]:
    """Return the types that an annotation allows, in words without an article."""
    inner = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case typing.Annotated:
            parsers = (extra.func for extra in inner[1:] if isinstance(extra, BeforeValidator))
            known = (_PARSED[each] for each in parsers if each in _PARSED)
            return next(known, None) or alternatives_of(inner[0])
        case typing.Literal:
            return [f"`{choice}`" for choice in inner]
        case types.UnionType | typing.Union:
            return [word for choice in inner for word in alternatives_of(choice)]
        case origin if origin is list:
            return [_container("list", "item", alternatives_of(inner[0]))]
        case origin if origin is dict:
            return [_container("mapping", "value", alternatives_of(inner[1]))]
    return _WORDS.get(annotation, ["mapping"])


def _container(container: str, element: str, alternatives: list[str]) -> str:
    """Return words such as `list of paths`, or `list, each item a string or null`."""
    if len(alternatives) == 1:
        first, *rest = alternatives[0].split(" of ", 1)
        return " of ".join((container, f"{first}s", *rest))
    each = either(word if word.startswith("`") else f"a {word}" for word in alternatives)
    return f"{container}, each {element} {each}"


def either(words: Iterable[str]) -> str:
    """Return words as a choice: `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def with_article(words: str) -> str:
    """Return words for a type with an article, unless they are a value, such as `null`."""
    if words.startswith("`"):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
