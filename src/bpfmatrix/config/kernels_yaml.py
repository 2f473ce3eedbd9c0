"""The file kernels.yaml: `load` reads it into a `Config`.

Each error names the line or the key that is wrong.
"""

import os
from datetime import date
from pathlib import Path

from bpfmatrix.config import yaml_file
from bpfmatrix.config.examples import MINIMAL
from bpfmatrix.config.models import FILE_NAME, Config
from bpfmatrix.config.yaml_file import model_in
from bpfmatrix.errors import ConfigError
from bpfmatrix.host.front_end import command

__all__ = ["exists_in", "load", "model_in", "place_in"]

_OTHER_NAME = "kernels.yml"


def place_in(folder: Path) -> Path:
    """Return the path of the folder's kernels.yaml, which may also be called kernels.yml.

    The path of a kernels.yaml if there is neither. ConfigError if there are both.
    """
    path, other = folder / FILE_NAME, folder / _OTHER_NAME
    if not os.path.lexists(other):
        return path
    if os.path.lexists(path):
        raise ConfigError(
            f"there are two files, {FILE_NAME} and {_OTHER_NAME}, in {folder}",
            "Keep one of them, and remove the other.",
        )
    return other


def exists_in(folder: Path) -> bool:
    """Whether a folder has a kernels.yaml, under either name."""
    return any(os.path.lexists(folder / name) for name in (FILE_NAME, _OTHER_NAME))


def load(path: Path) -> Config:
    """Read kernels.yaml; ConfigError names the file, the path of the key, and what was expected."""
    try:
        data = yaml_file.read(path, path.name)
    except FileNotFoundError:
        init = command("init")
        raise ConfigError(
            f"{path.name}: no such file in {path.parent}",
            f"Run this in the folder of kernels.yaml or below it, or let `{init}` write one.",
        ) from None
    if data is None:
        raise ConfigError(
            f"{path.name}: is empty; expected a mapping, as in {MINIMAL}",
            f"Without the file, `{command('init')}` writes one that fits the project.",
        )
    _require_text_ids(path, data)
    return yaml_file.validated(path.name, data, Config).at(path.parent.absolute())


def _require_text_ids(path: Path, data: object) -> None:
    # YAML reads a bare 5.10 as the number 5.1, which would silently name another kernel.
    kernels = data.get("kernels") if isinstance(data, dict) else None
    for id in kernels if isinstance(kernels, dict) else ():
        if not isinstance(id, str):
            raise ConfigError(
                f"{path.name}: kernels.{_in_yaml(id)}: YAML reads this id as {_kind(id)}",
                'Write it in quotes, as in "5.10".',
            )


def _in_yaml(id: object) -> str:
    match id:
        case None:
            return "null"
        case bool():
            return str(id).lower()
        case _:
            return str(id)


def _kind(id: object) -> str:
    match id:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case date():
            return "a date"
        case bytes():
            return "binary data"
        case _:
            return "a list"
