"""Folders of the host that the guest sees: the options of the command line.

`parse_options` reads --rootfs and --share, and gives a `HostFiles`; `environment` gives the
variables that the tests then have. `session.host_files` turns a `HostFiles` into `HostFolder`s for
one kernel, which `server` serves.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bpfmatrix.errors import UsageError
from bpfmatrix.rootfs.spec import RootSpec, existing_folder, parse

__all__ = [
    "HostFiles",
    "HostFolder",
    "SharedFolder",
    "Transport",
    "can_be_shared",
    "chosen_files",
    "environment",
    "parse_options",
]

Transport = Literal["virtiofs", "9p"]

# Folders of the guest that a share must not hide: those below which nothing can be shared, and
# those that only exist, at their own path, if the guest has no root of the host's.
_GUEST_MOUNTS = ("dev", "payload", "proc", "sys")
_GUEST_FOLDERS = ("bin", "etc", "host", "lib", "root", "run", "sbin", "tmp", "usr")


@dataclass(frozen=True)
class SharedFolder:
    """A folder of the host that the guest has at the same path (--share)."""

    path: Path
    """Absolute, and free of symbolic links."""
    writable: bool = False


@dataclass(frozen=True)
class HostFiles:
    """The files of the host that the guest sees (--rootfs and --share)."""

    root: Path | None = None
    """The folder that is the tests' root: `/` is the host's own root."""
    shares: tuple[SharedFolder, ...] = ()
    folder: Path = Path("/")
    """The working directory of the tests, if it exists below their root."""
    image: RootSpec | None = None
    """The image that is the tests' root, in place of a folder."""

    def __bool__(self) -> bool:
        return self.has_root or bool(self.shares)

    @property
    def has_root(self) -> bool:
        """Whether the tests' root is not the guest's."""
        return self.root is not None or self.image is not None

    @property
    def is_host(self) -> bool:
        """Whether the root is that of the host."""
        return self.root == Path("/")


@dataclass(frozen=True)
class HostFolder:
    """A folder of the host that a machine serves to its guest."""

    tag: str
    """The tag of the device, by which the guest mounts it."""
    path: Path
    writable: bool
    transport: Transport
    valid_seconds: float
    """For how long the guest may use what it was told of a file without asking again."""


Given = tuple[str | None, Sequence[str]]
"""The texts of a root file system and of shared folders."""


def chosen_files(project: Path, declared: Given, typed: Given) -> HostFiles:
    """Return the files that kernels.yaml in the folder `project`, and the command line ask for.

    The root of the command line replaces that of kernels.yaml, and its shares are added. UsageError
    names the option or the key that is wrong.
    """
    keys = ("kernels.yaml: payload.rootfs", "kernels.yaml: payload.share")
    rootfs = typed[0] if typed[0] is not None else declared[0]
    from_file = parse_options(
        declared[0] if typed[0] is None else None,
        declared[1],
        project,
        keys,
        has_root=rootfs not in (None, "none"),
    )
    ours = parse_options(*typed, has_root=rootfs not in (None, "none"))
    shares = {share.path: share for share in (*from_file.shares, *ours.shares)}
    chosen = ours if ours.has_root else from_file
    ordered = tuple(shares[path] for path in sorted(shares))
    return HostFiles(chosen.root, ordered, ours.folder, chosen.image)


def parse_options(
    rootfs: str | None,
    share: Sequence[str],
    base: Path = Path(),
    names: tuple[str, str] = ("--rootfs", "--share"),
    *,
    has_root: bool | None = None,
) -> HostFiles:
    """Check the values of --rootfs and --share; UsageError names the option that is wrong.

    Paths are relative to `base`; `names` are those of the options. `has_root` tells whether the
    tests have a root of their own, if `rootfs` does not.
    """
    root = None if rootfs is None or rootfs == "none" else parse(rootfs, names[0], base)
    has_root = root is not None if has_root is None else has_root
    shares: dict[Path, SharedFolder] = {}
    for text in share:
        name, colon, mode = text.rpartition(":")
        if not colon or mode not in ("ro", "rw"):
            name, mode = text, "ro"
        shown = f"{names[1]} {text}"
        path = existing_folder(names[1], name, "Give a folder of this host.", base)
        _check_place(shown, path, has_root)
        if mode == "rw" and not os.access(path, os.W_OK):
            raise UsageError(
                f"{shown}: you have no right to write there",
                "Share it without :rw, or share another folder.",
            )
        if path in shares:
            raise UsageError(f"{shown}: {path} is shared already", "Name it once.")
        shares[path] = SharedFolder(path, mode == "rw")
    # Outer folders come first, since inner ones are mounted in them.
    chosen = tuple(shares[path] for path in sorted(shares))
    image = root if root is not None and root.is_image else None
    return HostFiles(root.folder if root else None, chosen, Path.cwd(), image)


def can_be_shared(path: Path, *, has_root: bool) -> bool:
    """Return whether the guest has no folder of its own at this path, or above it.

    `has_root` tells whether the tests have a root of their own.
    """
    place = path.parts[1:]
    if not place or place[0] in _GUEST_MOUNTS:
        return False
    own = ("run",) if has_root else ("run", *_GUEST_FOLDERS)
    return len(place) > 1 or place[0] not in own


def _check_place(shown: str, path: Path, has_root: bool) -> None:
    if not can_be_shared(path, has_root=has_root):
        place = path.parts[1:]
        raise UsageError(
            f"{shown}: the guest has its own {path}",
            "Share a folder below it, or see all files with --rootfs host."
            if place and place[0] not in _GUEST_MOUNTS
            else "To see all files of the host, use --rootfs host.",
        )


# Only these variables are passed on. Others may have tokens and passwords, and tests print their
# environment into logs.
_PASSED_ON = (
    *("HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "SHELL", "TERM"),
    *("COLORTERM", "TZ", "VIRTUAL_ENV"),
)
_PASSED_ON_TO_OTHER_ROOT = ("LANG", "LANGUAGE", "TERM", "COLORTERM", "TZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(files: HostFiles, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the host's environment (`ours`) that the tests have.

    If the tests' root is not that of the host, their PATH and HOME do not come from the host.
    """
    if not files.has_root:
        return {}
    names = _PASSED_ON if files.is_host else _PASSED_ON_TO_OTHER_ROOT
    kept = {k: v for k, v in ours.items() if k in names or k.startswith("LC_")}
    kept = {k: v for k, v in kept.items() if "\0" not in v and v.isprintable()}
    # In memory: most of the root is an overlay, above which there can't be another one.
    kept["TMPDIR"] = "/run/tmp"
    if not files.is_host:
        return {**kept, "PATH": _PATH, "HOME": "/root"}
    # The tests are root. On Debian, the PATH of other users has no sbin folders.
    path = kept.get("PATH", _PATH).split(":")
    missing = [folder for folder in ("/usr/sbin", "/sbin") if folder not in path]
    return {**kept, "PATH": ":".join([*path, *missing])}
