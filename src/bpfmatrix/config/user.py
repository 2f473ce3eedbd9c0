"""The user's own settings, for all projects: `$XDG_CONFIG_HOME/bpfmatrix/config.yaml`."""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from bpfmatrix.config import yaml_file
from bpfmatrix.config.archives import Archives
from bpfmatrix.host.whole_file import write_whole

__all__ = ["UserConfig", "load", "path", "write"]


class UserConfig(BaseModel):
    """The settings of a user."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    archives: Archives | None = None
    """As in kernels.yaml, whose `archives` win."""


def path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the file, whether or not it exists."""
    # The XDG Base Directory specification: ignore XDG_CONFIG_HOME if it is empty or relative.
    xdg = Path(environ.get("XDG_CONFIG_HOME") or "")
    folder = xdg if xdg.is_absolute() else Path.home() / ".config"
    return folder / "bpfmatrix" / "config.yaml"


def load(file: Path) -> UserConfig:
    """Read the file, which may be missing; ConfigError for one that can't be read or is wrong."""
    if not file.exists():
        return UserConfig()
    data = yaml_file.read(file, str(file))
    return yaml_file.validated(str(file), {} if data is None else data, UserConfig)


def write(file: Path, settings: UserConfig) -> None:
    """Write the file. Comments in it are lost; OSError names the file."""
    data = settings.model_dump(by_alias=True, exclude_defaults=True)
    write_whole(file, yaml.safe_dump(data, sort_keys=False).encode())
