"""Sentences about the mistakes that a model finds in a file: what was expected, and an example.

`sentences` takes pydantic's errors, whose own words are about Python, and the data. Each mistake
becomes one sentence with the path of its key.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bpfmatrix.config.examples import MINIMAL, example_of
from bpfmatrix.config.models import Config
from bpfmatrix.config.type_words import alternatives_of, either, kind_of, with_article
from bpfmatrix.config.yaml_file import models_in
from bpfmatrix.errors import suggestion

__all__ = ["first_mistake", "sentences"]

_SHOWN_CHARACTERS = 40
_UNKNOWN_KEY = "extra_forbidden"
_KEY_MARK = "[key]"  # how pydantic marks an error in a key of a mapping


@dataclass(frozen=True)
class _Place:
    """Where a mistake is."""

    keys: tuple[str | int, ...]
    """The path of the key, without pydantic's names for the alternatives of a type."""
    model: type[BaseModel] | None
    """The model that has the key; None if the mistake is in the whole file."""
    field: FieldInfo | None
    key: str = ""
    """The name of the field in the file; the path may go on into its lists and mappings."""
    inside: bool = False
    """Whether the path goes on into the field's value."""
    annotation: Any = None
    """The type at the end of the path."""
    is_alternative: bool = False
    """Whether the mistake is in one alternative of a type, so that others may be in the rest."""


def sentences(name: str, error: ValidationError, root: type[BaseModel], data: object) -> list[str]:
    """Return a sentence for each mistake in the file `name`, in the order of the file's keys."""
    found: dict[tuple[str, str], str] = {}
    alternatives: set[tuple[str | int, ...]] = set()
    for problem in error.errors():
        place = _place(root, problem["loc"], problem["type"], data)
        if place.is_alternative:
            # One sentence for the whole type, whichever alternatives there are.
            if place.keys in alternatives:
                continue
            alternatives.add(place.keys)
        what = _what(root, place, problem)
        where = ".".join(map(str, place.keys))
        found[where, what] = f"{name}: {where}: {what}" if where else f"{name}: {what}"
    return list(found.values())


def first_mistake(error: ValidationError, root: type[BaseModel], data: object) -> tuple[str, str]:
    """Return the path of the first wrong value of data that no file has, and what was expected."""
    first = error.errors()[0]
    place = _place(root, first["loc"], first["type"], data)
    return ".".join(map(str, place.keys)), _what(root, place, first)


def _what(root: type[BaseModel], place: _Place, problem: Mapping[str, Any]) -> str:
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    example = example_of(place.model, place.key)
    if kind == _UNKNOWN_KEY:
        return f"unknown key{_hint(root, place.model, place.key)}"
    if kind == "missing":
        return f"this key is required, as in {example}" if example else "this key is required"
    if kind == "value_error":
        said = str(context.get("error", "")) or "is wrong"
        return f"{said}; found nothing" if value is None else said
    if kind == "invalid_key" or place.keys[-1:] == (_KEY_MARK,):
        return f"a key must be a text, not {_shown(value)}; write it in quotes"
    if place.field is None:
        example = f", as in {MINIMAL}" if root is Config else ""
        return f"expected a mapping{example}; found {_shown(value)}"
    ending = f", as in {example}" if example else ""
    if not place.is_alternative and (phrase := _PHRASES.get(kind)):
        expected = phrase(context)
    else:
        expected = _expected(place)
    if kind == "literal_error" and isinstance(value, str):
        ending = suggestion(value, re.findall(r"'([^']*)'", context["expected"])) or ending
    quotes = ""
    if kind == "string_type" and isinstance(value, int | float | date):
        quotes = "; write it in quotes, or YAML does not read it as text"
    return f"expected {expected}{ending}; found {_shown(value)}{quotes}"


def _hint(root: type[BaseModel], model: type[BaseModel] | None, key: str) -> str:
    """Return what follows `unknown key`: a similar key, where it belongs, or the known ones."""
    known = _keys(model) if model else []
    if hint := suggestion(key, known):
        return hint
    if belongs := next((path for path, one in models_in(root) if path and key in _keys(one)), ""):
        return f"; it belongs below `{belongs}`"
    return f"; known are {', '.join(sorted(known))}" if known else ""


# What a value has to be beyond its type, by pydantic's names of its errors.
_PHRASES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda context: f"{context['ge']} or more",
    "greater_than": lambda context: f"more than {context['gt']}",
    "less_than_equal": lambda context: f"at most {context['le']}",
    "less_than": lambda context: f"less than {context['lt']}",
    "too_short": lambda context: f"at least {_counted(context['min_length'])}",
    "too_long": lambda context: f"at most {_counted(context['max_length'])}",
    "string_pattern_mismatch": lambda context: _characters(context["pattern"]),
    "string_too_short": lambda _: "a text that is not empty",
}


def _characters(pattern: str) -> str:
    """Return in words which characters a pattern of our models allows."""
    match = re.fullmatch(r"\^\[A-Za-z0-9\]\[A-Za-z0-9([^\]]+)\]\*\$", pattern)
    assert match is not None, pattern
    return f"letters, digits and {' '.join(match[1])}, with a letter or a digit first"


def _counted(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _expected(place: _Place) -> str:
    """Return what the field expects in words, such as `a list of strings`."""
    assert place.field is not None
    if place.inside:
        return either(map(with_article, alternatives_of(place.annotation)))
    words = kind_of(place.field)
    alternatives = words.replace(" or ", ", ").split(", ") if ", each " not in words else [words]
    return either(with_article(word) for word in alternatives)


def _shown(value: object) -> str:
    """Return a value as a user reads it in the file."""
    match value:
        case None:
            shown = "nothing"
        case bool():
            shown = str(value).lower()
        case int() | float():
            shown = f"the number {value}"
        case date():
            shown = f"the date {value}"
        case Mapping():
            shown = "a mapping" if value else "an empty mapping"
        case list() | tuple() | set():
            shown = "a list" if value else "an empty list"
        case bytes():
            shown = "binary data"
        case _:
            text = str(value)
            cut = "..." if len(text) > _SHOWN_CHARACTERS else ""
            shown = f'"{text[:_SHOWN_CHARACTERS]}{cut}"'
    return shown


def _place(
    root: type[BaseModel], location: tuple[str | int, ...], kind: str, data: object
) -> _Place:
    """Follow pydantic's location through the models' types."""
    annotation: Any = root
    place = _Place((), None, None)
    for part in location:
        annotation = _plain(annotation)
        if _is_union(annotation):
            models = [one for one in typing.get_args(annotation) if _is_model(one)]
            value = _value_at(data, place.keys)
            if not (models and isinstance(value, dict) and models[0].__name__ in str(part)):
                return _alternative(place)
            annotation = models[0]
        elif _is_model(annotation):
            found = _field(annotation, str(part))
            keys = (*place.keys, part)
            if found and isinstance(_value_at(data, place.keys), list):
                # The list is short for a mapping with this key, which the file does not have.
                place = dataclasses.replace(place, field=found)
                annotation = found.annotation
                continue
            if found is None:  # an unknown key
                return _Place(keys, annotation, None, str(part))
            place = _Place(keys, annotation, found, found.alias or str(part))
            annotation = found.annotation
        elif typing.get_origin(annotation) in (list, dict):
            annotation = typing.get_args(annotation)[-1]
            if part == _KEY_MARK:
                return place
            keys = (*place.keys, part)
            place = dataclasses.replace(place, keys=keys, inside=True, annotation=annotation)
        else:
            return _alternative(place) if kind != _UNKNOWN_KEY else place
    return place


def _alternative(place: _Place) -> _Place:
    return dataclasses.replace(place, is_alternative=True)


def _value_at(data: object, keys: tuple[str | int, ...]) -> object:
    for key in keys:
        try:
            data = data[key]  # type: ignore[index]
        except (LookupError, TypeError):
            return None
    return data


def _plain(annotation: Any) -> Any:
    """Return an annotation without its metadata, and without an alternative of None."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif _is_union(annotation) and type(None) in (inner := typing.get_args(annotation)):
            rest = tuple(one for one in inner if one is not type(None))
            if len(rest) > 1:
                return typing.Union[rest]  # noqa: UP007 - of a tuple
            annotation = rest[0]
        else:
            return annotation


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field(model: type[BaseModel], key: str) -> FieldInfo | None:
    fields: Iterator[FieldInfo] = (
        field for name, field in model.model_fields.items() if (field.alias or name) == key
    )
    return next(fields, None)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
