"""Files in YAML that users write: read, and checked by a model.

Each error names the file, and the line or the key that is wrong.
"""

import typing
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bpfmatrix.errors import ConfigError

__all__ = ["model_in", "models_in", "read", "validated"]

_Model = TypeVar("_Model", bound=BaseModel)
# PyYAML reads about 300 KB in a second.
_LIMIT_BYTES = 1 << 20
_LIMIT_VALUES = 200_000
_SHOWN_CHARACTERS = 60


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
    text = _text(path, name)
    try:
        data: object = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        _require_bounded(name, data)
        return data
    except yaml.YAMLError as error:
        raise _syntax_error(name, text, error) from error
    except RecursionError as error:
        raise ConfigError(f"{name}: lists and mappings are nested too deeply") from error
    except (ValueError, TypeError, LookupError) as error:  # from PyYAML's own code
        raise ConfigError(f"{name}: can't be read as YAML: {error}") from error


def _text(path: Path, name: str) -> str:
    if path.is_dir():
        raise ConfigError(f"{name}: is a folder, and has to be a file", f"It is {path}.")
    if path.exists() and not path.is_file():  # reading a pipe would wait for a writer
        raise ConfigError(f"{name}: is no regular file", f"It is {path}.")
    try:
        size = path.stat().st_size
        if size > _LIMIT_BYTES:
            raise ConfigError(
                f"{name}: has {size >> 20} MiB, and at most {_LIMIT_BYTES >> 20} are read",
                "Is it the right file? Name data in it by paths.",
            )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(
                f"{name}: is a link to {path.readlink()}, which is not there",
                f"Remove the link, or make what it names. It is {path}.",
            ) from None
        raise
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(
            f"{name}: is no text in UTF-8: byte {error.start} is 0x{byte:02x}",
            "Save it as UTF-8.",
        ) from error
    except OSError as error:
        raise ConfigError(f"{name}: can't be read: {error.strerror}") from error


def _syntax_error(name: str, text: str, error: yaml.YAMLError) -> ConfigError:
    """Return an error with the line, and what is wrong in it."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return ConfigError(
            f"{name}: line {line}: the character U+{ord(error.character):04X} can't be in YAML"
            if isinstance(error.character, str)
            else f"{name}: has a character that can't be in YAML"
        )
    if mark is None:
        return ConfigError(f"{name}: is no valid YAML: {problem or error}")
    line_text = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "'\\t'" in str(problem) or line_text[: mark.column + 1].lstrip(" ").startswith("\t"):
        return ConfigError(
            f"{name}: line {mark.line + 1}: a tab, which YAML does not take as indentation",
            "Indent with spaces.",
        )
    if str(problem).startswith("duplicate key"):
        return ConfigError(f"{name}: line {mark.line + 1}: {problem}")
    shown = f": {line_text.strip()[:_SHOWN_CHARACTERS]}" if line_text.strip() else ""
    return ConfigError(
        f"{name}: line {mark.line + 1}: no valid YAML ({problem}){shown}",
        "Look for a bracket or a quote that is not closed, for the indentation, and for a text "
        "with : or # that needs quotes.",
    )


def _require_bounded(name: str, data: object) -> None:
    """Refuse aliases (`*a`) that stand for more values than a file can have, or for themselves."""
    sizes: dict[int, int] = {}
    open_ones: set[int] = set()

    def size_of(value: object) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) in open_ones:
            raise ConfigError(f"{name}: an alias (*) stands for something that it is in itself")
        if id(value) not in sizes:
            open_ones.add(id(value))
            inner = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size_of, inner))
            open_ones.discard(id(value))
        return sizes[id(value)]

    if (size := size_of(data)) > _LIMIT_VALUES:
        raise ConfigError(f"{name}: its aliases (*) stand for {size:.1e} values, which is too many")


def validated(name: str, data: object, model: type[_Model]) -> _Model:
    """Return data as a model; ConfigError names each wrong key's path, and what was expected."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        from bpfmatrix.config.mistakes import sentences  # noqa: PLC0415 - for mistakes only

        raise ConfigError("\n".join(sentences(name, error, model, data))) from error


def model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model in an annotation such as `X`, `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model), None)


def models_in(root: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Give a model and those below it, each once, with the path of its keys.

    Outer models come before inner ones.
    """
    seen: set[type[BaseModel]] = set()
    waiting: list[tuple[str, type[BaseModel]]] = [("", root)]
    while waiting:
        path, model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield path, model
        within = []
        for name, field in model.model_fields.items():
            inner = model_in(field.annotation)
            if inner:
                of_each = ""
                if typing.get_origin(field.annotation) is dict:
                    of_each = ".<id>" if name == "kernels" else ".<name>"
                within.append((f"{path}.{name}".lstrip(".") + of_each, inner))
        waiting = within + waiting
