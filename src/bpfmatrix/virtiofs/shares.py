"""Folders of the host that the guest sees: what is asked for, and how a kernel gets there.

`asked` reads what was typed; `plan` takes that and a kernel, and gives the folders that the machine
serves, the modules that the guest needs for them, and the lines of its job that mount them. What
serves a folder over virtiofs is `fuse` and `vhost`, in a process of its own (`server`).
"""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bpfmatrix.errors import UsageError

__all__ = ["HostFiles", "HostFolder", "Share", "Transport", "asked", "environment"]

Transport = Literal["virtiofs", "9p"]

# Where the guest has its own, which a folder of the host must not hide. Those of the second line
# it has only without a root of the host's.
_GUESTS_TREES = ("dev", "payload", "proc", "sys")
_GUESTS_FOLDERS = ("bin", "etc", "host", "lib", "root", "run", "sbin", "tmp", "usr")


@dataclass(frozen=True)
class Share:
    """A folder of the host that the guest has at the same path."""

    path: Path
    """Absolute, and free of symbolic links."""
    writable: bool = False


@dataclass(frozen=True)
class HostFiles:
    """What the guest is to see of the host."""

    root: Path | None = None
    """The tests' root; `/` is the host's own."""
    shares: tuple[Share, ...] = ()
    folder: Path = Path("/")
    """The tests' working directory, where the root has it."""

    def __bool__(self) -> bool:
        return self.root is not None or bool(self.shares)

    @property
    def is_host(self) -> bool:
        """Whether the root is that of the host."""
        return self.root == Path("/")


@dataclass(frozen=True)
class HostFolder:
    """A folder that a machine serves to its guest."""

    tag: str
    """Its name on the device, by which the guest mounts it."""
    path: Path
    writable: bool
    transport: Transport
    valid_seconds: float
    """For how long the guest may trust what it was told of a file."""


def asked(rootfs: str | None, share: Sequence[str]) -> HostFiles:
    """Check what was typed behind --rootfs and --share; UsageError names the option."""
    root = None
    if rootfs is not None:
        root = Path("/") if rootfs == "host" else _folder("--rootfs", rootfs)
        if not rootfs == "host" and not any(root.iterdir()):
            raise UsageError(
                f"--rootfs {rootfs}: the folder is empty",
                "Give one with a tree in it, such as debootstrap makes, or `host`.",
            )
    shares: dict[Path, Share] = {}
    for text in share:
        name, colon, mode = text.rpartition(":")
        if not colon or mode not in ("ro", "rw"):
            name, mode = text, "ro"
        path = _folder("--share", name)
        _check_place(text, path, root is not None)
        if mode == "rw" and not os.access(path, os.W_OK):
            raise UsageError(
                f"--share {text}: you can't write there", "Share it without :rw, or another folder."
            )
        if path in shares:
            raise UsageError(f"--share {text}: {path} is shared already", "Name it once.")
        shares[path] = Share(path, mode == "rw")
    # An outer folder first, as an inner one is mounted in it.
    return HostFiles(root, tuple(shares[path] for path in sorted(shares)), Path.cwd())


def _folder(option: str, name: str) -> Path:
    try:
        path = Path(name).expanduser().resolve(strict=True)
        if not path.is_dir():
            raise UsageError(f"{option} {name}: no folder", "Give the folder that it lies in.")
        os.scandir(path).close()
    except (OSError, RuntimeError, ValueError) as error:
        why = "no such folder"
        if isinstance(error, OSError) and error.errno != errno.ENOENT:
            why = error.strerror or why
        also = " or `host`" if option == "--rootfs" else ""
        raise UsageError(f"{option} {name}: {why}", f"Give a folder of this host{also}.") from None
    return path


def _check_place(text: str, path: Path, has_root: bool) -> None:
    place = path.parts[1:]
    own = (
        not place
        or place[0] in _GUESTS_TREES
        or (
            len(place) == 1
            and (place[0] == "run" or (not has_root and place[0] in _GUESTS_FOLDERS))
        )
    )
    if own:
        raise UsageError(
            f"--share {text}: the guest has its own {path}",
            "Share a folder below it, or see all files with --rootfs host."
            if place and place[0] not in _GUESTS_TREES
            else "To see all files of the host, use --rootfs host.",
        )


# Variables that say where and how one works. All others stay here: tests print them into logs, and
# tokens and passwords stand in such variables.
_KEPT = (
    *("HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "SHELL", "TERM"),
    *("COLORTERM", "TZ", "VIRTUAL_ENV"),
)
_KEPT_BELOW_A_TREE = ("LANG", "LANGUAGE", "TERM", "COLORTERM", "TZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(files: HostFiles, ours: Mapping[str, str]) -> dict[str, str]:
    """Return what of our environment the tests have.

    A tree that is not the host's has the places of its own in PATH and HOME.
    """
    if files.root is None:
        return {}
    names = _KEPT if files.is_host else _KEPT_BELOW_A_TREE
    kept = {k: v for k, v in ours.items() if k in names or k.startswith("LC_")}
    kept = {k: v for k, v in kept.items() if "\0" not in v and v.isprintable()}
    if not files.is_host:
        return {**kept, "PATH": _PATH, "HOME": "/root"}
    # Debian's PATH of an ordinary user lacks the folders of root's tools, and the tests are root.
    path = kept.get("PATH", _PATH).split(":")
    missing = [folder for folder in ("/usr/sbin", "/sbin") if folder not in path]
    return {**kept, "PATH": ":".join([*path, *missing])}
