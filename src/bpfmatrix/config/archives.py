"""The mirror of Debian that a user names: for one command, for a project, or for this user.

`named` returns the first that there is of the variable BPFMATRIX_DEBIAN_ARCHIVE, `archives` of
kernels.yaml, and `archives` of the user's own file, which `invoke kernels.archive URL` writes.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from bpfmatrix.config.value_types import Url, is_archive_url
from bpfmatrix.errors import UsageError

__all__ = [
    "SECURITY_VARIABLE",
    "VARIABLE",
    "Archives",
    "NamedArchives",
    "declare",
    "named",
    "security_beside",
]

VARIABLE = "BPFMATRIX_DEBIAN_ARCHIVE"
SECURITY_VARIABLE = "BPFMATRIX_DEBIAN_SECURITY_ARCHIVE"


class Archives(BaseModel):
    """A mirror of Debian, for `apt` sources without a `mirror`.

    Default: what `BPFMATRIX_DEBIAN_ARCHIVE` or `bpfmatrix kernels.archive` named, else the mirror
    of the host's apt, else what the host's packages know of Debian.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    debian: Url
    """The URL of Debian's archive: of the folder that holds `dists` and `pool`, such as
    `http://mirror.example.org/debian`."""
    security: Url | None = Field(default=None, alias="debian-security")
    """The URL of Debian's security archive. Default: the folder `debian-security` beside `debian`,
    where mirrors usually have it."""
    check_dates: bool = True
    """Whether an index whose date of expiry has passed is refused. Use false for a mirror that
    keeps an old state, such as a snapshot."""


@dataclass(frozen=True)
class NamedArchives:
    """The archives that a user named, and by what."""

    archives: Archives
    by: str
    """For messages: `kernels.yaml`, `BPFMATRIX_DEBIAN_ARCHIVE`, or the path of the user's file."""


# Kernels, busybox for another architecture, and the libraries of loaders come from one archive, so
# it belongs to the process, as the variables do.
_declared: list[Archives | None] = [None]


def declare(archives: Archives | None) -> None:
    """Let this process use the archives of a kernels.yaml, if it has any."""
    _declared[0] = archives


def named(environ: Mapping[str, str] = os.environ) -> NamedArchives | None:
    """Return the archives that the user named, or None.

    A variable is for one command, and kernels.yaml for everyone who has the project, so the
    variable wins. ConfigError for a wrong file of the user, UsageError for a wrong variable.
    """
    from bpfmatrix.config import user  # noqa: PLC0415 - which imports this module

    if url := environ.get(VARIABLE):
        security = environ.get(SECURITY_VARIABLE) or None
        for name, value in ((VARIABLE, url), (SECURITY_VARIABLE, security)):
            if value is not None and not is_archive_url(value):
                raise UsageError(
                    f"{name} is {value!r}, which is not the URL of an archive",
                    "Expected: a URL such as http://mirror.example.org/debian.",
                )
        found = Archives.model_validate({"debian": url, "debian-security": security})
        return NamedArchives(found, VARIABLE)
    if _declared[0] is not None:
        return NamedArchives(_declared[0], "kernels.yaml")
    path = user.path(environ)
    if own := user.load(path).archives:
        return NamedArchives(own, str(path))
    return None


def security_beside(uri: str) -> str | None:
    """Return the URL of the security archive beside Debian's archive, or None.

    Mirrors have the two as `/debian` and `/debian-security` (https://www.debian.org/mirror/ftpmirror
    recommends these names).
    """
    match = re.fullmatch(r"(.*/debian)/?", uri)
    return f"{match[1]}-security/" if match else None
