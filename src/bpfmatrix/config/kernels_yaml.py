"""The file kernels.yaml: `load` reads it into a `Config`.

Each error names the line or the key that is wrong.
"""

from pathlib import Path

from bpfmatrix.config import yaml_file
from bpfmatrix.config.models import Config
from bpfmatrix.config.yaml_file import model_in
from bpfmatrix.errors import ConfigError
from bpfmatrix.host.front_end import command

__all__ = ["load", "model_in"]


def load(path: Path) -> Config:
    """Read kernels.yaml; ConfigError names the file, the path of the key, and what was expected."""
    try:
        data = yaml_file.read(path, path.name)
    except FileNotFoundError:
        init = command("init")
        raise ConfigError(
            f"{path.name}: no such file in {path.parent}",
            f"Run this in the folder of kernels.yaml or below it, or write one: `{init}`.",
        ) from None
    _require_text_ids(path, data)
    return yaml_file.validated(path.name, data, Config).at(path.parent.absolute())


def _require_text_ids(path: Path, data: object) -> None:
    # YAML reads a bare 5.10 as the number 5.1, which would silently name another kernel.
    kernels = data.get("kernels") if isinstance(data, dict) else None
    for id in kernels if isinstance(kernels, dict) else ():
        if not isinstance(id, str):
            raise ConfigError(
                f"{path.name}: kernels.{id}: YAML reads this id as a number",
                'Write it in quotes, as in "5.10".',
            )
