"""The reference of kernels.yaml: its JSON schema, and the page of its keys in docs/.

Types, defaults and descriptions come from the models. `outputs` returns the text of each file. The
task `invoke docs` writes the files, or names those that are out of date.
"""

import ast
import functools
import inspect
import itertools
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bpfmatrix.config.models import (
    KERNEL_ID,
    PRESET_NAME,
    Config,
    Defaults,
    Expectation,
    KernelEntry,
    Matrix,
    PayloadConfig,
    VerifyObjects,
)
from bpfmatrix.config.settings import Binary, Profile, Settings
from bpfmatrix.config.sources import Source
from bpfmatrix.config.type_words import DURATION, SIZE, kind_of
from bpfmatrix.config.yaml_file import models_in

__all__ = ["outputs", "stale"]

_INTRODUCTION = """\
# kernels.yaml

<!-- Generated from src/bpfmatrix/config/ by `invoke docs`: change the models there. -->

`kernels.yaml`, in the project's root, declares the kernels, their machines, and what runs there.
The smallest useful one is

```yaml
kernels:
  "6.1": {source: {apt: {suite: bookworm-security}}}
```

[`bpfmatrix init`](init.md) writes one that fits a project. The file may also be called
`kernels.yml`.

Quote ids, because YAML reads a bare `5.10` as the number 5.1. An unknown key is an error. With this
first line, an editor with a YAML language server completes and checks the keys:

```yaml
# yaml-language-server: $schema=https://raw.githubusercontent.com/bpfmatrix/bpfmatrix/v1/kernels.schema.json
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
    by_name = {model.__name__: model for _, model in models_in(Config)}
    for name, definition in made["$defs"].items():
        _describe(definition["properties"], by_name[name])
    _describe(made["properties"], Config)
    # Rules of the models' validators that pydantic does not put into the schema.
    made["$defs"][Source.__name__] |= {"minProperties": 1, "maxProperties": 1}
    made["$defs"][Expectation.__name__]["oneOf"] = [
        {"required": ["program"]},
        {"required": ["test"]},
    ]
    presets = made["$defs"][VerifyObjects.__name__]["properties"]["presets"]
    presets["propertyNames"] = {"pattern": f"^{PRESET_NAME.pattern}$"}
    made["properties"]["kernels"]["propertyNames"] = {"pattern": f"^{KERNEL_ID.pattern}$"}
    made["properties"]["profiles"]["propertyNames"] = {"pattern": f"^{PRESET_NAME.pattern}$"}
    binaries = made["$defs"][PayloadConfig.__name__]["properties"]["binaries"]
    binaries["items"] = {"anyOf": [{"type": "string"}, binaries["items"]]}
    matrix = made["properties"]["matrix"]
    ids = made["$defs"][Matrix.__name__]["properties"]["kernels"]
    listed = {key: ids[key] for key in ("type", "items", "minItems")}
    matrix["anyOf"] = [listed, {"$ref": matrix.pop("$ref")}]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kernels.yaml"}
    return head | {key: value for key, value in made.items() if key not in head}


def _describe(properties: dict[str, Any], model: type[BaseModel]) -> None:
    """Add descriptions, write defaults as in YAML, and drop the titles, which repeat the names."""
    for name, field in model.model_fields.items():
        key = properties[field.alias or name]
        key.pop("title", None)
        key["description"] = _description(model, name)
        if kind_of(field) in (SIZE, DURATION) and key.get("default") is not None:
            key["default"] = _default(field)
        elif isinstance(field.default, BaseModel):
            key.pop("default", None)
        if key.get("default") == [] and "minItems" in key:
            del key["default"]  # the default of a key that is left out, and nothing to write
        if kind_of(field) == DURATION:
            key["exclusiveMinimum"] = 0


def page() -> str:
    """Return the page of the keys of kernels.yaml, as Markdown."""
    return _INTRODUCTION + "".join(_section(path, model) for path, model in models_in(Config))


def _description(model: type[BaseModel], name: str) -> str:
    """Return the docstring below a model's field, in one line.

    pydantic can read these docstrings (`use_attribute_docstrings`). It would do so each time that
    the models are imported, which takes longer than the rest of the import.
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
                ast.Expr(value=ast.Constant(value=str(docstring))),
            ):
                found[name] = docstring
    return found


def _section(path: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{model.model_fields[name].alias or name}` | {' | '.join(_row(model, name))} |"
        for name in _listed_fields(model)
    ]
    title = f"`{path}`" if path else "The keys of the file"
    lines = [
        *("", f"## {title}", ""),
        *(" ".join(f"{model.__doc__ or ''} {_KEYS_OF_PAYLOAD.get(model, '')}".split()), ""),
    ]
    if rows:
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


# Models whose keys `payload` has too, and where the section of each says so.
_KEYS_OF_PAYLOAD: dict[type[BaseModel], str] = {
    Settings: "Its keys are those of `payload` from `args` on.",
    Binary: "Its other keys are those of `payload` from `args` on.",
    Profile: "Its keys are those of `payload` from `unprivileged_bpf` on.",
}


def _listed_fields(model: type[BaseModel]) -> list[str]:
    """Return the fields that a model's section lists: its own ones before the inherited ones."""
    if model is Settings:
        return []
    own = [name for name in model.model_fields if name in model.__annotations__]
    inherited = [name for name in model.model_fields if name not in own]
    return own if model in _KEYS_OF_PAYLOAD else [*own, *inherited]


def _row(model: type[BaseModel], name: str) -> tuple[str, str, str]:
    field = model.model_fields[name]
    description, _, default = _description(model, name).partition(" Default: ")
    if model is KernelEntry and name in Defaults.model_fields:
        default = "that of `defaults`"
    elif default:  # one that is determined at run time, so that only the description has it
        default = default.removesuffix(".")
    elif field.is_required():
        default = "required"
    elif isinstance(field.default, BaseModel):
        default = "that of its keys"
    else:
        default = f"`{_yaml(_default(field))}`" if field.default is not None else "none"
    return tuple(text.replace("|", "\\|") for text in (kind_of(field), default, description))  # type: ignore[return-value]


def _default(field: FieldInfo) -> Any:
    """Return a field's default as it would be written in kernels.yaml."""
    value = field.get_default(call_default_factory=True)
    kind = kind_of(field)
    if kind == SIZE:
        return _size(value)
    if kind == DURATION:
        return _duration(value)
    return str(value) if isinstance(value, Path) else value


def _size(value: int) -> str:
    unit, factor = next((u, f) for u, f in (("G", 1 << 30), ("M", 1 << 20)) if value % f == 0)
    return f"{value // factor}{unit}"


def _duration(value: float) -> str:
    # People write 120s rather than 2m, but 30m rather than 1800s.
    return f"{value / 60:g}m" if value >= 600 and value % 60 == 0 else f"{value:g}s"


def _yaml(value: Any) -> str:
    return (
        value if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) else json.dumps(value)
    )
