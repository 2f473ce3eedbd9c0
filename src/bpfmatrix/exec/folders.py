"""The folders of the host that a command needs if the host is not the root of the guest."""

import dataclasses
import os
from pathlib import Path

from bpfmatrix.virtiofs.shares import HostFiles, SharedFolder, can_be_shared

__all__ = ["with_folders_of"]

# A folder with fewer names in its path, such as /tmp or /home, has more than one test runner's
# files.
_NAMES = 2
# The programs below these are those of the guest.
_SYSTEM = ("bin", "etc", "lib", "lib64", "sbin", "usr")


def with_folders_of(files: HostFiles, program: str, folder: Path, project: Path) -> HostFiles:
    """Return the files of a guest that also has those of a command, read-only.

    These are the folder of the project, and, if `program` is a path and not only a name, the folder
    of the program and the one above it: Go has a folder for each package's test binary, and one
    above these for all of a run, so that one guest is like the other. The working directory of the
    command is `folder`.
    """
    if files.is_host:
        return files
    wanted = [project]
    place = (folder / program).parent
    of_system = any(place.is_relative_to(f"/{name}") for name in _SYSTEM)
    if os.sep in program and not of_system:
        place = place.resolve()
        wanted.append(place.parent if len(place.parts) > _NAMES + 1 else place)
    shares = list(files.shares)
    for path in wanted:
        known = any(path.is_relative_to(share.path) for share in shares)
        if not known and can_be_shared(path, has_root=files.has_root):
            shares.append(SharedFolder(path))
    return dataclasses.replace(files, shares=tuple(sorted(shares, key=lambda one: one.path)))
