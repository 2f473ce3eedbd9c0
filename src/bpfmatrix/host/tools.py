"""Programs of the host: where they are, and what to install if one is missing."""

import functools
import os
import shutil
import sys
from pathlib import Path

from bpfmatrix.errors import ToolMissingError

__all__ = ["find", "require"]

# Debian has mkfs and depmod in these folders, which are not in the PATH of ordinary users.
_ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@functools.cache
def find(name: str) -> Path | None:
    """Return the path of a program, or None."""
    # The folder of this Python comes first: a virtual environment that is not activated may have a
    # Go, and other tools.
    folders = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
    path = os.pathsep.join((*folders, *_ADMIN_FOLDERS))
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def require(name: str, package: str) -> Path:
    """Return the path of a program; ToolMissingError names the Debian package that has it."""
    found = find(name)
    if found is None:
        raise ToolMissingError(
            f"{name} is not installed", f"Install {package} (on Debian), or run ./bootstrap."
        )
    return found
