"""Files in YAML that users write: read, and checked by a model.

Each error names the file, and the line or the key that is wrong.
"""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bpfmatrix.errors import ConfigError, suggestion

__all__ = ["model_in", "read", "validated"]

_Model = TypeVar("_Model", bound=BaseModel)


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


def read(path: Path, name: str) -> object:
    """Return the data of a YAML file; ConfigError calls the file `name`.

    FileNotFoundError if there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: can't be read: {error}") from error
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        place = f" line {mark.line + 1}:" if mark else ""
        raise ConfigError(f"{name}:{place} {problem}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # from PyYAML's own code
        raise ConfigError(f"{name}: can't be read as YAML: {error}") from error


def validated(name: str, data: object, model: type[_Model]) -> _Model:
    """Return data as a model; ConfigError names each wrong key's path, and what was expected."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_messages(name, error, model))) from error


def _messages(name: str, error: ValidationError, root: type[BaseModel]) -> Iterable[str]:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = (
                f"unknown key{suggestion(str(problem['loc'][-1]), _keys_at(root, problem['loc']))}"
            )
        elif problem["type"] in ("model_type", "dict_type"):
            what = "expected a mapping"
        yield f"{name}: {where}: {what}" if where else f"{name}: {what}"


def _keys_at(root: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that are allowed at the location of an unknown key."""
    model = root
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
