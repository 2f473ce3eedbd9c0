"""Kernel images in folders: which file is the kernel, and what lies beside it.

A kernel with a given id is `<id>/vmlinuz`, `linux-<id>.bz`, `vmlinuz-<release>` (the newest release
that the id means), or, in a folder for one kernel, just `vmlinuz`, `bzImage`, `Image.gz`, `Image`
or `vmlinux`. Its modules are in `lib/modules/<release>`, beside it or beside the folder `boot` that
it is in.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bpfmatrix.host import versions

__all__ = ["BOOT_NAMES", "config_of", "every", "find", "is_release_of", "modules_of"]

# The names of a kernel's file that do not say which kernel it is; the first one that exists is
# taken. A vmlinux comes last: it often lies there for debuggers, beside what is booted.
BOOT_NAMES = ("vmlinuz", "bzImage", "Image.gz", "Image", "vmlinux")


def find(place: Path, id: str, alone: bool = True) -> Path | None:
    """Return the kernel with this id in the folder `place`, or `place` itself if it is a file.

    `alone` says whether a file whose path names no kernel, such as `<place>/vmlinuz`, counts.
    """
    if place.is_file():
        return place if alone else None
    own = place / id
    candidates = [
        *(own / name for name in BOOT_NAMES),
        *_released(own, None),
        place / f"linux-{id}.bz",
        *_released(place, id),
        *(place / name for name in BOOT_NAMES if alone),
    ]
    return next((path for path in candidates if path.is_file()), None)


def every(place: Path) -> list[Path]:
    """Return the files of all kernels in a folder whose paths there say which release each is."""
    own = [folder for folder in place.iterdir() if versions.leading_version(folder.name)]
    found = [
        *(path for folder in own if (path := find(place, folder.name, alone=False))),
        *place.glob("linux-*.bz"),
        *place.glob("vmlinuz-*"),
    ]
    # `find` leads from `6.1` to vmlinuz-6.1.0-56 too, so some may be there twice.
    return sorted({path for path in found if path.is_file()})


def _released(folder: Path, id: str | None) -> Iterator[Path]:
    """Give the files `vmlinuz-<release>` whose release an id means, the newest one first."""
    fitting = [
        path
        for path in folder.glob("vmlinuz-*")
        if id is None or is_release_of(id, path.name.removeprefix("vmlinuz-"))
    ]
    # By the values of the numbers: 6.1.10 is newer than 6.1.9.
    yield from sorted(fitting, key=lambda path: versions.all_numbers(path.name), reverse=True)


def is_release_of(id: str, release: str) -> bool:
    """Whether an id means a release: `6.1` means 6.1.x and not 6.12; a word means itself."""
    version = versions.leading_version(id)
    if not version:
        return id == release
    return bool(re.match(rf"{re.escape(version)}(?!\d)", release))


def modules_of(file: Path, release: str) -> Mapping[str, Path]:
    """Return the files of a kernel's modules, by their paths below `lib/modules/<release>`."""
    for folder in _module_folders(file, release):
        # Without links: `build` and `source` lead to the headers on the machine that built it.
        return {
            str(path.relative_to(folder)): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
    return {}


def _module_folders(file: Path, release: str) -> Iterator[Path]:
    roots = [file.parent]
    if file.parent.name == "boot":
        roots.append(file.parent.parent)
    for root in roots:
        if (folder := root / "lib/modules" / release).is_dir():
            yield folder


def config_of(file: Path) -> Path | None:
    """Return the configuration of a kernel, if it lies beside the kernel."""
    release = file.name.partition("vmlinuz-")[2]
    path = file.with_name(f"config-{release}" if release else "config")
    return path if path.is_file() else None
