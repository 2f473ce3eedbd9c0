"""The `directory` source: kernels that lie somewhere, and `KERN_DIR`, which goes before all others.

For a kernel of kernels.yaml, `bpfmatrix.kernels.provide` looks in this order:

1. in the folder that the environment variable `KERN_DIR` names, whatever the source is;
2. at its source, if that is a folder; or at what is cached of its source;
3. in `ci-kernels/` of the project, where people put images by hand;
4. at its source, over the network.

So what is at hand needs no network, and a hand-placed image does not silently take the place of a
declared kernel that was fetched before.

In a folder, a kernel is `<id>/vmlinuz`, `linux-<id>.bz`, `vmlinuz-<release>` (the newest that fits
the id), or, where the folder is for one kernel, just a `vmlinuz`, `bzImage`, `Image.gz`, `Image` or
`vmlinux`. Its modules are those of its own release in `lib/modules` beside it, or beside the `boot`
that it lies in. It is copied into the store, and again when a file of it changed.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from bpfmatrix.config.models import Config, KernelConfig, KernelEntry
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UsageError
from bpfmatrix.host import versions
from bpfmatrix.host.checksum import RunningSha256, sha256_of
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.staging import BOOT_NAMES, install, upstream_version
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space
from bpfmatrix.kernels.vmlinuz import Vmlinuz, inspect

__all__ = ["add_to", "declared", "fetch_file", "find", "in_kern_dir", "in_project", "is_current"]

KERN_DIR = "KERN_DIR"
PROJECT_FOLDER = "ci-kernels"


def in_kern_dir(kernel: KernelConfig) -> KernelConfig | None:
    """Return the kernel with what KERN_DIR has for it as its source, or None if it has nothing.

    A relative KERN_DIR is relative to the working directory. UsageError if there is no such folder.
    """
    name = os.environ.get(KERN_DIR)
    if not name or kernel.exact:
        return None
    folder = Path(name).expanduser().absolute()
    if not folder.exists():
        raise UsageError(
            f"{KERN_DIR} names {name}, which does not exist", f"Unset {KERN_DIR}, or correct it."
        )
    return _with_file(kernel, find(folder, kernel.id))


def declared(kernel: KernelConfig) -> KernelConfig:
    """Return a kernel whose source is a folder with the file in there as its source."""
    assert kernel.source.directory is not None
    place = kernel.root / kernel.source.directory
    found = _with_file(kernel, find(place, kernel.id))
    if found is None:
        what = f"there is no kernel for it in {place}" if place.is_dir() else f"there is no {place}"
        raise KernelUnavailableError(
            f"{kernel.id}: {what}",
            f"Expected is {kernel.id}/vmlinuz, linux-{kernel.id}.bz, vmlinuz-RELEASE, or one of "
            f"{', '.join(BOOT_NAMES)}.",
        )
    return found


def in_project(kernel: KernelConfig) -> KernelConfig | None:
    """Return the kernel with what `ci-kernels/` has for it as its source, or None."""
    return _with_file(kernel, find(kernel.root / PROJECT_FOLDER, kernel.id, alone=False))


def _with_file(kernel: KernelConfig, file: Path | None) -> KernelConfig | None:
    if file is None:
        return None
    return kernel.model_copy(update={"source": Source(directory=file.absolute())})


def add_to(config: Config, path: Path) -> tuple[Config, str]:
    """Return a configuration that also has the kernel in `path`, and the id that it has there.

    It is called like its file, or by its version where the file's name says nothing. UsageError if
    there is no kernel.
    """
    file = find(path.absolute(), "")
    if file is None:
        raise UsageError(f"--image {path}: no such file", f"Or {', '.join(BOOT_NAMES)} in there.")
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


def find(place: Path, id: str, alone: bool = True) -> Path | None:
    """Return the file of a kernel's image in a folder, or `place` if it is that file itself.

    `alone` says whether a file that has no version in its name may be the one.
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


def _released(folder: Path, id: str | None) -> Iterator[Path]:
    """Give the files `vmlinuz-<release>` that fit an id, the newest release first."""
    fitting = [
        path
        for path in folder.glob("vmlinuz-*")
        if id is None or _fits(id, path.name.removeprefix("vmlinuz-"))
    ]
    # Numbers by their value: 6.1.9 before 6.1.10.
    yield from sorted(fitting, key=lambda path: versions.all_numbers(path.name), reverse=True)


def _fits(id: str, release: str) -> bool:
    """Whether a release is what an id means: `6.1` is 6.1.x, and not 6.12; a word is itself."""
    version = versions.begin(id)
    if not version:
        return id == release
    return bool(re.match(rf"{re.escape(version)}(?!\d)", release))


def fetch_file(kernel: KernelConfig, store: Store, progress: Progress) -> KernelImage:
    """Copy the file that is the kernel's source into the store, and let `kernel` point at it."""
    file = kernel.source.directory
    assert file is not None
    name = shown(file, kernel.root)
    progress(f"{kernel.id}: copying {name}")
    try:
        before = file.stat()
        # The largest is a vmlinux with debug information, stored once more without compression.
        require_space(store.cache.root, UNPACKED_KERNEL_BYTES + 2 * before.st_size)
        with store.cache.staging() as staging:
            root = staging / "root"
            root.mkdir()
            found = install(file, name, partial(modules_of, file), config_of(file), root)
            require_release(kernel.id, found, name)
            new = stamp(file, found.release)
            after = file.stat()
            if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
                raise BpfmatrixError(f"{name} changed while it was copied", "Try again.")
            package = Package(name, found.release, sha256_of(root / "vmlinuz"))
            provenance = Provenance(f"directory {name}", (package,))
            return store.add(kernel, staging, upstream_version(found), provenance, new)
    except PermissionError as error:
        raise KernelUnavailableError(
            f"{error.filename} can't be read ({error.strerror})", "Let this user read it."
        ) from error


def is_current(kernel: KernelConfig, store: Store, image: KernelImage) -> bool:
    """Whether a stored image is what the file that is the kernel's source holds now."""
    file = kernel.source.directory
    return file is not None and stamp(file, image.release) == store.stamp(kernel)


def require_release(id: str, found: Vmlinuz, name: str) -> None:
    """BpfmatrixError if the id begins with a version and the kernel is of another one.

    Debian's and others' releases do not always say the upstream version, so that counts as well.
    """
    if versions.begin(id) and not any(
        _fits(id, said) for said in (found.release, upstream_version(found))
    ):
        raise BpfmatrixError(
            f"{name} is release {found.release}, and not {id}",
            "Put it where its own release is looked for, or give the kernel another id.",
        )


def modules_of(file: Path, release: str) -> Mapping[str, Path]:
    """Return the modules' files of an image by their paths relative to `lib/modules/<release>`."""
    for folder in _module_folders(file, release):
        # Links are left out: `build` and `source` lead to headers on the machine that built it.
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
    """Return what a kernel was configured with, if that lies beside it."""
    release = file.name.partition("vmlinuz-")[2]
    path = file.with_name(f"config-{release}" if release else "config")
    return path if path.is_file() else None


def stamp(file: Path, release: str) -> str:
    """Return what changes when a file of the kernel is exchanged: names, sizes and times."""
    digest = RunningSha256()
    for path in (file, *modules_of(file, release).values()):
        try:
            info = path.stat()
        except OSError:
            return ""
        digest.update(f"{path} {info.st_size} {info.st_mtime_ns} {info.st_ino}\n".encode())
    return digest.hexdigest()


def shown(file: Path, root: Path) -> str:
    """Return how a file is called: relative to the project if it lies in it."""
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
