"""The staging root: the folder in which a kernel is put together before it is stored.

It has `vmlinuz`, perhaps `config`, and perhaps `lib/modules/<release>`. Modules are uncompressed,
as busybox's insmod reads no others.
"""

import errno
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from bpfmatrix.errors import BpfmatrixError, ToolMissingError
from bpfmatrix.host import versions
from bpfmatrix.host.process import reason_of_end
from bpfmatrix.kernels.formats.compression import BadDataError, decompress, format_of
from bpfmatrix.kernels.formats.vmlinuz import Vmlinuz, inspect

__all__ = ["depmod", "install", "require_release", "upstream_version", "write"]


def install(
    kernel: Path,
    name: str,
    modules: Callable[[str], Mapping[str, Path]],
    config: Path | None,
    root: Path,
) -> Vmlinuz:
    """Copy a kernel, its configuration and its modules into the staging root `root`.

    `modules` returns the module files of a release, by their paths below `lib/modules/<release>`.
    `name` is the name of the kernel in an error.
    """
    found = inspect(kernel.read_bytes(), name)
    require_release(found.release, name)
    shutil.copyfile(kernel, root / "vmlinuz")
    if config is not None:
        shutil.copyfile(config, root / "config")
    files = modules(found.release)
    for path, source in files.items():
        with source.open("rb") as file:
            write(root / "lib/modules" / found.release / path, file)
    if files:
        depmod(root, found.release)
    return found


def require_release(release: str, name: str) -> None:
    """BpfmatrixError if `release` can't be one: see UNAME_RELEASE.

    `name` is the name of what has it.
    """
    if not re.fullmatch(versions.UNAME_RELEASE, release):
        shown = release if len(release) <= 80 else f"{release[:80]}..."
        raise BpfmatrixError(
            f"{name}: {shown!r} can't be the release of a kernel",
            "A release begins with a digit or a letter, and has no slash, space or control "
            "character, and at most 64 characters.",
        )


def upstream_version(found: Vmlinuz) -> str:
    """Return `6.1.192` for the release `6.1.192-generic`, and for Debian's `6.1.0-56-cloud-amd64`.

    Debian's releases contain an ABI number and not the upstream version, but their banners contain
    it: `... #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)`.
    """
    # Only behind the number of the build (`#1`): before it, the compiler's version may say Debian.
    if match := re.search(r"#.* Debian (\d+\.\d+(?:\.\d+)?)", found.banner):
        return match[1]
    match = re.match(r"\d+\.\d+(?:\.\d+)*(?:-rc\d+)?", found.release)
    return match[0] if match else found.release


def write(target: Path, file: IO[bytes]) -> None:
    """Write a file of a kernel; a compressed module (`*.ko.xz`) is decompressed (`*.ko`).

    BpfmatrixError if no file can have its name, such as one below another file.
    """
    try:
        _write(target, file)
    except OSError as error:
        if error.errno not in _NAMING:
            raise
        parts = target.parts[-3:]
        shown = "/".join(part if len(part) <= 60 else f"{part[:60]}..." for part in parts)
        raise BpfmatrixError(
            f"a file of the kernel can't be unpacked: .../{shown}: {error.strerror}",
            "Its package or image is damaged, or was made for another file system.",
        ) from error


# A name that is too long, a file where a folder is, and a folder where a file is.
_NAMING = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EILSEQ)


def _write(target: Path, file: IO[bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix in (".xz", ".zst", ".gz") and target.with_suffix("").suffix == ".ko":
        data = file.read()
        try:
            data = decompress(data) if format_of(data) else data
        except BadDataError as error:
            raise BpfmatrixError(f"the module {target.name} can't be unpacked: {error}") from error
        target.with_suffix("").write_bytes(data)
        return
    with target.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)


def depmod(root: Path, release: str) -> None:
    """Write `modules.dep` and the other files of depmod into `root/lib/modules/<release>`."""
    require_release(release, "lib/modules")
    # Debian has it in /usr/sbin, which is not on the PATH of an ordinary user.
    tool = shutil.which("depmod") or shutil.which("depmod", path="/usr/sbin:/sbin")
    if tool is None:
        raise ToolMissingError("depmod is not installed", "Install the package kmod.")
    # Some depmods look for /lib/modules below the base folder, others for /usr/lib/modules.
    link = root / "usr"
    link.symlink_to(".")
    try:
        done = subprocess.run(
            [tool, "-b", root, "--", release],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    finally:
        link.unlink()
    if done.returncode or not (root / "lib/modules" / release / "modules.dep").exists():
        why = reason_of_end(done.returncode, done.stderr)
        raise BpfmatrixError(f"depmod failed for {release}: {why}")
