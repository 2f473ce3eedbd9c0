"""The option `--image`: a kernel that is in no kernels.yaml, named by its file."""

import re
from dataclasses import replace
from pathlib import Path

from bpfmatrix.config.models import Config, KernelEntry
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.kernels.formats.vmlinuz import inspect
from bpfmatrix.kernels.image_files import BOOT_NAMES, find
from bpfmatrix.kernels.staging import upstream_version

__all__ = ["add_image", "with_image"]


def with_image(project: Project, path: Path) -> tuple[Project, str]:
    """Return the project with the kernel in `path` as a further kernel, and the id of that kernel.

    UsageError if there is no kernel in `path`.
    """
    config, id = add_image(project.config, path)
    return replace(project, config=config), id


def add_image(config: Config, path: Path) -> tuple[Config, str]:
    """Return the configuration with the kernel in `path`, a file or a folder, and its new id.

    The id is the name of the file, or the kernel's version if the name says nothing. UsageError if
    there is no kernel.
    """
    file = find(path.absolute(), "")
    if file is None:
        raise UsageError(
            f"--image {path}: no such file",
            f"Expected: a kernel's file, or a folder with one of {', '.join(BOOT_NAMES)}.",
        )
    try:
        found = inspect(file.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"--image {path}: can't be read ({error.strerror})") from error
    except BpfmatrixError as error:
        raise UsageError(f"--image {error.what}", error.advice) from error
    name = upstream_version(found) if file.name in BOOT_NAMES else file.name
    id = re.sub(r"[^A-Za-z0-9._+-]", "-", name).lstrip("._+-") or found.release
    while id in config.kernels:
        id += "-image"
    entry = KernelEntry.model_validate({"arch": found.arch, "source": {"directory": file}})
    entry._exact = True
    return config.model_copy(update={"kernels": {**config.kernels, id: entry}}), id
