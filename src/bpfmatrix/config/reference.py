"""The files generated from the models of kernels.yaml: its JSON schema, and the page of its keys.

`outputs` returns the text of each file; the task `invoke docs` writes them, or says which one is
out of date. Types, defaults and descriptions come only from the models.
"""

import ast
import functools
import inspect
import itertools
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from bpfmatrix.config import kernels_yaml, models, value_types
from bpfmatrix.config.models import Config, Defaults, Expectation, KernelEntry, Source
from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = ["outputs", "stale"]

_INTRODUCTION = """\
# kernels.yaml

<!-- Generated from src/bpfmatrix/config/models.py by `invoke docs`; change it there. -->

`kernels.yaml`, in the project's root, declares the kernels, their machines, and what runs there.
The smallest useful one is

```yaml
kernels:
  "6.1": {source: {apt: {suite: bookworm-security}}}
```

Quote ids, because YAML reads a bare `5.10` as the number 5.1. An unknown key is an error. With this
first line, an editor with a YAML language server completes and checks the keys
(`kernels.schema.json` is in bpfmatrix's repository):

```yaml
# yaml-language-server: $schema=kernels.schema.json
```

A kernel's own settings override `defaults` key by key, also within `qemu` and `timeout`. A list
replaces the default list.

- A **size** is a whole number with a unit, `K`, `M` or `G` (powers of 1024): `512M`.
- A **duration** is a number with a unit, `ms`, `s`, `m` or `h`: `90s`, `1.5m`. A bare number is in
  seconds.
- A **path** is absolute, or relative to the folder of `kernels.yaml`.
"""


def outputs(root: Path) -> dict[Path, str]:
    """Return the text of each generated file of the checkout in `root`."""
    return {
        root / "kernels.schema.json": json.dumps(schema(), indent=2) + "\n",
        root / "docs/kernels-yaml.md": page(),
    }


def stale(root: Path) -> list[Path]:
    """Return the generated files that are missing or out of date."""

    def is_current(path: Path, text: str) -> bool:
        return path.exists() and path.read_text(encoding="utf-8") == text

    return [path for path, text in outputs(root).items() if not is_current(path, text)]


def schema() -> dict[str, Any]:
    """Return the JSON schema of kernels.yaml."""
    made = Config.model_json_schema(mode="validation")
    for name, description in made["$defs"].items():
        model = getattr(models, name)
        _write_defaults(description["properties"], model)
    _write_defaults(made["properties"], Config)
    # Rules of the models' validators that pydantic does not put into the schema.
    made["$defs"][Source.__name__] |= {"minProperties": 1, "maxProperties": 1}
    made["$defs"][Expectation.__name__]["oneOf"] = [
        {"required": ["program"]},
        {"required": ["test"]},
    ]
    made["properties"]["kernels"]["propertyNames"] = {"pattern": f"^{models._KERNEL_ID.pattern}$"}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kernels.yaml"}
    return head | {key: value for key, value in made.items() if key not in head}


def _write_defaults(properties: dict[str, Any], model: type[BaseModel]) -> None:
    """Write defaults as in YAML, add descriptions, and drop pydantic's meaningless titles."""
    for name, field in model.model_fields.items():
        described = properties[field.alias or name]
        described.pop("title", None)
        described["description"] = _meaning(model, name)
        if _kind(field) in (_SIZE, _DURATION) and "default" in described:
            described["default"] = _value(field)
        elif isinstance(field.default, BaseModel):
            described.pop("default", None)
        if _kind(field) == _DURATION:
            described["exclusiveMinimum"] = 0


def page() -> str:
    """Return the page of the keys of kernels.yaml, as Markdown."""
    return _INTRODUCTION + "".join(_section(path, model) for path, model in _models("", Config))


_SIZE, _DURATION = "size", "duration"


def _models(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each model once, with the path of its keys; outer models come before inner ones."""
    seen: set[type[BaseModel]] = set()
    waiting = [(path, model)]
    while waiting:
        path, model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield path, model
        within = []
        for name, field in model.model_fields.items():
            inner = kernels_yaml.model_in(field.annotation)
            if inner:
                of_each = ".<id>" if typing.get_origin(field.annotation) is dict else ""
                within.append((f"{path}.{name}".lstrip(".") + of_each, inner))
        waiting = within + waiting


def _meaning(model: type[BaseModel], name: str) -> str:
    """Return the docstring below a model's field, in one line.

    pydantic can read these itself, but at each import of the models, and that takes longer than the
    rest of the import.
    """
    for base in model.__mro__:
        if base is not BaseModel and name in (found := _docstrings(base)):
            return " ".join(found[name].split())
    return ""


@functools.cache
def _docstrings(model: type) -> dict[str, str]:
    if not issubclass(model, BaseModel):
        return {}
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(definition.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(meaning))),
            ):
                found[name] = meaning
    return found


def _section(path: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{field.alias or name}` | {' | '.join(_row(model, name))} |"
        for name, field in model.model_fields.items()
    ]
    title = f"`{path}`" if path else "The keys of the file"
    lines = [
        *("", f"## {title}", ""),
        *(" ".join((model.__doc__ or "").split()), ""),
        *("| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""),
    ]
    return "\n".join(lines)


def _row(model: type[BaseModel], name: str) -> tuple[str, str, str]:
    field = model.model_fields[name]
    meaning = _meaning(model, name)
    described, _, default = meaning.partition(" Default: ")
    if model is KernelEntry and name in Defaults.model_fields:
        default = "that of `defaults`"
    elif default:  # the field's description has defaults that are determined at run time
        default = default.removesuffix(".")
    elif field.is_required():
        default = "required"
    elif isinstance(field.default, BaseModel):
        default = "that of its keys"
    else:
        default = f"`{_yaml(_value(field))}`" if field.default is not None else "none"
    return tuple(text.replace("|", "\\|") for text in (_kind(field), default, described))  # type: ignore[return-value]


def _kind(field: FieldInfo) -> str:
    parsers = [extra.func for extra in field.metadata if isinstance(extra, BeforeValidator)]
    if value_types.parse_size in parsers:
        return _SIZE
    if value_types.parse_duration in parsers:
        return _DURATION
    if value_types.parse_architecture in parsers:
        return " or ".join(f"`{name}`" for name in ARCHITECTURES)
    said = _type(field.annotation)
    # If the default is None, null means the same as leaving the key out.
    return said.removesuffix(", or `null`") if field.default is None else said


def _type(annotation: Any) -> str:
    """Return the type of a key's value, in words."""
    inner = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case typing.Annotated:
            return _type(inner[0])
        case typing.Literal:
            return " or ".join(f"`{choice}`" for choice in inner)
        case types.UnionType | typing.Union:
            return ", or ".join(_type(choice) for choice in inner)
        case origin if origin is list:
            first, *rest = _type(inner[0]).split(" of ", 1)
            return " of ".join(("list", f"{first}s", *rest))
        case origin if origin is dict:
            return f"mapping, each value a {_type(inner[1])}"
    words = {str: "string", int: "whole number", float: "number", bool: "`true` or `false`"}
    words |= {Path: "path", type(None): "`null`"}
    return words.get(annotation, "mapping")


def _value(field: FieldInfo) -> Any:
    """Return a default as it would be written in kernels.yaml."""
    value = field.get_default(call_default_factory=True)
    kind = _kind(field)
    if kind == _SIZE:
        return _size(value)
    if kind == _DURATION:
        return _duration(value)
    return str(value) if isinstance(value, Path) else value


def _size(value: int) -> str:
    unit, factor = next((u, f) for u, f in (("G", 1 << 30), ("M", 1 << 20)) if value % f == 0)
    return f"{value // factor}{unit}"


def _duration(value: float) -> str:
    # As people write it: 120s, but 30m and not 1800s.
    return f"{value / 60:g}m" if value >= 600 and value % 60 == 0 else f"{value:g}s"


def _yaml(value: Any) -> str:
    return (
        value if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) else json.dumps(value)
    )
