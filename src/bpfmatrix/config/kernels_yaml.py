"""The file kernels.yaml: `load` reads it into a `Config`.

Each error names the line or the key that is wrong.
"""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from bpfmatrix.config.models import Config
from bpfmatrix.errors import ConfigError, suggestion

__all__ = ["load", "model_in"]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a key can't be a list or a mapping", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Config:
    """Read kernels.yaml; ConfigError names the file, the path of the key, and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path.name}: no such file in {path.parent}",
            "Run this in the folder of kernels.yaml, or write one (docs/kernels-yaml.md).",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: can't be read: {error}") from error
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        place = f" line {mark.line + 1}:" if mark else ""
        raise ConfigError(f"{path.name}:{place} {problem}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # from PyYAML's own code
        raise ConfigError(f"{path.name}: can't be read as YAML: {error}") from error
    _require_text_ids(path, data)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_messages(path, error))) from error
    return config.at(path.parent.absolute())


def _require_text_ids(path: Path, data: object) -> None:
    # YAML reads a bare 5.10 as the number 5.1, which would silently name another kernel.
    kernels = data.get("kernels") if isinstance(data, dict) else None
    for id in kernels if isinstance(kernels, dict) else ():
        if not isinstance(id, str):
            raise ConfigError(
                f"{path.name}: kernels.{id}: YAML reads this id as a number",
                'Write it in quotes, as in "5.10".',
            )


def _messages(path: Path, error: ValidationError) -> Iterable[str]:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = f"unknown key{suggestion(str(problem['loc'][-1]), _keys_at(problem['loc']))}"
        elif problem["type"] in ("model_type", "dict_type"):
            what = "expected a mapping"
        yield f"{path.name}: {where}: {what}" if where else f"{path.name}: {what}"


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that are allowed at the location of an unknown key."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:  # a kernel's id, which is no field of a model
            continue
        found = model_in(field.annotation)
        if found is None:
            return []
        model = found
    return [field.alias or name for name, field in model.model_fields.items()]


def model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model in an annotation such as `X`, `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model), None)
