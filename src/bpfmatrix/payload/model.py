"""The payload: the executables and files that the guest runs, as a disk image.

`executable` looks at one file on the host and tells whether the guest could run it; `image` gives
the ext4 image that the guest mounts at `/payload`, made once for each content.
"""

import mmap
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from bpfmatrix.errors import PayloadError, UsageError
from bpfmatrix.host import tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import RunningSha256, sha256_of
from bpfmatrix.host.process import output
from bpfmatrix.suite import gotest

__all__ = ["Disk", "Executable", "Payload", "executable", "image"]

MOUNT_POINT = PurePosixPath("/payload")
OBJECTS_FOLDER = "ebpf"
ID_FILE = ".id"  # read by guest/init

# Sparse, so a size costs nothing. It is the same for nearly all payloads, so that a machine that
# was saved with one can be given another.
_IMAGE_BYTES = 1 << 30
_FIXED_UUID = "6270666d-6174-7269-7800-000000000001"


@dataclass(frozen=True)
class Executable:
    """A file that the guest runs as a test. `kind` says how its output is read."""

    path: Path
    kind: Literal["go-test", "program"]

    @property
    def name(self) -> str:
        """The name that results give it."""
        return self.path.name.removesuffix(".test")


@dataclass(frozen=True)
class Payload:
    """What one machine is given: tests, eBPF objects that they load, and files that they read."""

    tests: tuple[Executable, ...]
    objects: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Path] = field(default_factory=dict)
    """Further files, by their places below the mount point."""

    def commands(
        self, pattern: str | None, arguments: Sequence[str]
    ) -> list[tuple[Executable, tuple[str, ...]]]:
        """Return what the guest runs: Go tests choose by the pattern themselves, others by name."""
        chosen: list[tuple[Executable, tuple[str, ...]]] = []
        for test in self.tests:
            place = str(MOUNT_POINT / test.path.name)
            if test.kind == "go-test":
                chosen.append((test, (place, *gotest.arguments(pattern), *arguments)))
            elif pattern is None or _matches(pattern, test.name):
                chosen.append((test, (place, *arguments)))
        return chosen

    def guest_env(self) -> dict[str, str]:
        """Return the environment variables of the tests."""
        folder = {"BPFMATRIX_OBJECTS": str(MOUNT_POINT / OBJECTS_FOLDER)} if self.objects else {}
        return {**folder, **self.env}

    def files(self) -> dict[str, Path]:
        """Return where each file stands in the image; PayloadError if two take one place."""
        names: dict[str, Path] = {}
        for test in self.tests:
            if names.setdefault(test.name, test.path) != test.path:
                raise PayloadError(
                    f"{test.path} and {names[test.name]} would both be {test.name!r} in results",
                    "Rename one of them.",
                )
        found: dict[str, Path] = {}
        for place, path in (
            (ID_FILE, Path(ID_FILE)),
            *((test.path.name, test.path) for test in self.tests),
            *((f"{OBJECTS_FOLDER}/{path.name}", path) for path in self.objects),
            *self.extra.items(),
        ):
            if found.setdefault(place, path) != path:
                raise PayloadError(
                    f"{path} and {found[place]} would both be {MOUNT_POINT / place} in the guest",
                    "Rename one of them.",
                )
        del found[ID_FILE]
        for place, path in found.items():
            for folder in PurePosixPath(place).parents:
                if str(folder) in found:
                    raise PayloadError(
                        f"{found[str(folder)]} would be {MOUNT_POINT / folder} in the guest, "
                        f"which is the folder of {path}",
                        "Rename it.",
                    )
        return found

    def mode(self, place: str) -> int:
        """Return the rights of a file in the image; those of `extra` are executable as here."""
        if place in self.extra:
            return 0o755 if self.extra[place].stat().st_mode & 0o111 else 0o644
        return 0o644 if place.startswith(f"{OBJECTS_FOLDER}/") else 0o755


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise UsageError(f"--run {pattern}: no regular expression: {error}") from None


def executable(path: Path, arch: str, root: Path | None = None) -> Executable:
    """Look at a file that the guest is to run; PayloadError says why it can't.

    `root` is the folder of the host that is the root of the tests; with none, they have no more
    than what busybox offers.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise PayloadError(f"{path} can't be read: {error.strerror}") from error
    if head.startswith(b"#!"):
        _check_interpreter(path, head, root)
        return Executable(path, "program")
    if not head.startswith(b"\x7fELF"):
        raise PayloadError(
            f"{path} is neither an ELF executable nor a script",
            "Give a static executable, or a script that begins with #!/bin/sh.",
        )
    _check_elf(path, arch, root)
    return Executable(path, "go-test" if _is_go_test(path) else "program")


def _check_interpreter(path: Path, head: bytes, root: Path | None) -> None:
    line = head.splitlines()[0][2:].decode(errors="replace").split()
    if root is not None:
        if line:
            _check_needed(path, line[0], root)
        return
    if line and PurePosixPath(line[0]).name == "env":
        line = [word for word in line[1:] if not word.startswith("-")]
    # The guest's commands are those of busybox; /bin, /sbin, /usr/bin and /usr/sbin are one there.
    if line and PurePosixPath(line[0]).name not in ("sh", "ash", "busybox"):
        raise PayloadError(
            f"{path} needs {line[0]}, which the guest does not have",
            "Write it for /bin/sh, build a static executable, or run with --rootfs host.",
        )


def _check_needed(path: Path, needed: str, root: Path) -> None:
    # A link that leads nowhere from here may well lead somewhere in there.
    if not os.path.lexists(root / needed.lstrip("/")):
        raise PayloadError(
            f"{path} needs {needed}, which {root} does not have",
            "Install it there, or build a static executable.",
        )


def _check_elf(path: Path, arch: str, root: Path | None) -> None:
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.enums import ENUM_E_MACHINE  # noqa: PLC0415
    from elftools.elf.segments import InterpSegment  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            machine, type_ = elf["e_machine"], elf["e_type"]
            loaders = [s for s in elf.iter_segments() if isinstance(s, InterpSegment)]
            loader = loaders[0].get_interp_name() if loaders else None
    except (ELFError, OSError, ValueError) as error:  # a seek to a wild offset is an OSError
        raise PayloadError(f"{path} is a damaged ELF file: {error}", "Build it again.") from error
    if type_ == "ET_REL":
        raise PayloadError(f"{path} is an object file and can't be run", "Link it first.")
    # pyelftools gives the number of a machine that it has no name for.
    if ENUM_E_MACHINE.get(machine, machine) != ARCHITECTURES[arch].elf_machine:
        built_for = str(machine).removeprefix("EM_").lower()
        raise PayloadError(
            f"{path} is built for {built_for}, the guest is {arch}",
            f"Build it for {arch}.",
        )
    if loader is not None and root is not None:
        _check_needed(path, loader, root)
    elif loader is not None:
        raise PayloadError(
            f"{path} is dynamically linked (needs {loader}) and the guest has no libraries",
            "Build it with CGO_ENABLED=0 (Go) or -static (C), or run with --rootfs host.",
        )


def _is_go_test(path: Path) -> bool:
    """Tell whether a file is what `go test -c` makes: Go's own, with testing's entry in it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # Function names stay in Go's line table when the symbols are stripped.
        return data.find(b"testing.MainStart") >= 0 and data.find(b"\xff Go buildinf:") >= 0


@dataclass(frozen=True)
class Disk:
    """An image of a payload; `id` is its content's checksum, which it also holds, as `.id`."""

    image: Path
    id: str


def image(payload: Payload, cache: Cache) -> Disk:
    """Return the ext4 image with the payload's files, made if there is none of this content."""
    files = payload.files()
    id = _digest(payload, files)
    target = cache.root / "payloads" / f"{id}.ext4"
    if target.exists():
        os.utime(target)  # still in use: see Cache.prune_made
        return Disk(target, id)
    mkfs = tools.require("mkfs.ext4", "e2fsprogs")
    target.parent.mkdir(parents=True, exist_ok=True)
    with cache.staging() as folder:
        tree, made = folder / "tree", folder / "image"
        tree.mkdir()
        for place, path in files.items():
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / place)
            (tree / place).chmod(payload.mode(place))
        (tree / ID_FILE).write_text(f"{id}\n")
        _make_ext4(mkfs, tree, made, _size_for(files.values()))
        made.replace(target)
    cache.prune_made()
    return Disk(target, id)


def _digest(payload: Payload, files: dict[str, Path]) -> str:
    whole = RunningSha256(b"ext4-3\0")  # counts changes of the way an image is made
    for place in sorted(files):
        content = sha256_of(files[place])
        whole.update(f"{place}\0{payload.mode(place):o}\0{content}\n".encode())
    return whole.hexdigest()[:32]


def _size_for(files: Iterable[Path]) -> int:
    content = sum(path.stat().st_size for path in files)
    size = _IMAGE_BYTES
    while size < content * 1.25:
        size *= 2
    return size


def _make_ext4(mkfs: Path, tree: Path, target: Path, size_bytes: int) -> None:
    command: list[str | Path] = [
        *(mkfs, "-q", "-F", "-d", tree, "-U", _FIXED_UUID, "-m", "0"),
        # No journal, nothing set aside: it is written once and then only read.
        *("-O", "^has_journal,^resize_inode", "-E", f"hash_seed={_FIXED_UUID},nodiscard"),
        *(target, f"{size_bytes >> 10}k"),
    ]
    output(command, "mkfs.ext4 could not make the payload's image", error=PayloadError)
