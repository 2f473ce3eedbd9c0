"""A PATH without some programs, as on a host of another distribution."""

import os
from pathlib import Path

ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def path_without(folder: Path, *missing: str) -> str:
    """Return a PATH with all programs of this host but those whose names begin like one of these.

    `folder` is made, and has a link to each program.
    """
    folder.mkdir(parents=True)
    for place in (*os.environ["PATH"].split(os.pathsep), *ADMIN_FOLDERS):
        for program in Path(place).glob("*") if place else ():
            link = folder / program.name
            if not program.name.startswith(missing) and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)
