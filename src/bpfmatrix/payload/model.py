"""The payload: what one machine is given to run, and where each file stands in the guest."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bpfmatrix.config.settings import Settings
from bpfmatrix.config.value_types import FORMATS, Format
from bpfmatrix.errors import PayloadError, UsageError
from bpfmatrix.payload import go
from bpfmatrix.payload.repository import Repository
from bpfmatrix.results.names import Selection

__all__ = [
    "FORMATS",
    "ID_FILE",
    "MOUNT_POINT",
    "REPOSITORY_FOLDER",
    "Executable",
    "Format",
    "Payload",
]

MOUNT_POINT = PurePosixPath("/payload")
OBJECTS_FOLDER = "ebpf"
ID_FILE = ".id"  # read by guest/init
REPOSITORY_FOLDER = ".repository"  # mounted by guest/init
# The files of the guests' consoles, beside the logs of tests.
_CONSOLE_LOG = re.compile(r"console(-\d+)?\.log")
# NAME_MAX of Linux; and half of PATH_MAX, as the payload is also unpacked below other folders.
_NAME_BYTES = 255
_PATH_CHARACTERS = 2000


@dataclass(frozen=True)
class Executable:
    """A file that the guest runs as a test. `format` tells how its output is read."""

    path: Path
    format: Format
    package: str = ""
    """The import path of the Go package whose tests it has, if that is known."""
    folder: Path | None = None
    """Its working directory: an absolute path, the same on the host and in the guest. None for the
    guest's `/payload`."""
    settings: Settings = field(default_factory=Settings)
    """How it is started: the settings of kernels.yaml that are for it."""

    @property
    def name(self) -> str:
        """Its name in results: the package's import path, or else the file's name."""
        return self.package or self.path.name.removesuffix(".test")

    @property
    def place(self) -> str:
        """Its path in the guest, below the mount point of the payload."""
        return f"{self.package}.test" if self.package else self.path.name


@dataclass(frozen=True)
class Payload:
    """What one machine runs: tests, eBPF objects that they load, and files that they read."""

    tests: tuple[Executable, ...]
    objects: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Path] = field(default_factory=dict)
    """Further files (`payload.files`, `payload.listed`), by their paths below the mount point."""
    repository: Repository | None = None
    """The files that the guest has at the same paths as the host."""
    goroot: str = ""
    """The GOROOT of the Go that built the tests; empty if Go built none."""

    def commands(
        self, pattern: str | None, arguments: Sequence[str]
    ) -> list[tuple[Executable, tuple[str, ...]]]:
        """Return the tests to run, with their command lines in the guest.

        `pattern` is a regular expression, or a package and one (`Selection`). A Go test binary is
        given the regular expression, and chooses among its tests by itself. A program always runs
        as a whole. UsageError if there is no such package, or if it is not a regular expression.
        """
        chosen: list[tuple[Executable, tuple[str, ...]]] = []
        selection = Selection.of(pattern, [test.name for test in self.tests])
        for test in self.tests:
            if test.name not in selection.names:
                continue
            place = str(MOUNT_POINT / test.place)
            words = (*test.settings.args, *arguments)
            if test.format == "go":
                chosen.append((test, (place, *go.run_arguments(selection.pattern), *words)))
            elif (
                selection.chosen
                or selection.pattern is None
                or _matches(selection.pattern, test.name)
            ):
                chosen.append((test, (place, *words)))
        return chosen

    def guest_env(self) -> dict[str, str]:
        """Return the environment variables of the tests in the guest."""
        folder = {"BPFMATRIX_OBJECTS": str(MOUNT_POINT / OBJECTS_FOLDER)} if self.objects else {}
        # Like `go test`. Without it, runtime.GOROOT() is empty in a binary built with -trimpath.
        goroot = {"GOROOT": self.goroot} if self.goroot else {}
        return {**goroot, **folder, **self.env}

    def files(self) -> dict[str, Path]:
        """Return the files of the image by their paths in it, without those of the repository.

        PayloadError if two have the same path.
        """
        names: dict[str, Path] = {}
        for test in self.tests:
            _require_test_name(test)
            if test.name in names:
                raise PayloadError(
                    f"{test.path} and {names[test.name]} would both be {test.name!r} in results",
                    "Rename one of them, or name it once.",
                )
            names[test.name] = test.path
        self._require_apart()
        found: dict[str, Path] = {}
        for path in self.objects:
            _require_printable(path)
        for place, path in (
            *((test.place, test.path) for test in self.tests),
            *((f"{OBJECTS_FOLDER}/{path.name}", path) for path in self.objects),
            *self.extra.items(),
        ):
            if place.split("/")[0] in (ID_FILE, REPOSITORY_FOLDER):
                raise PayloadError(
                    f"{path} would be {MOUNT_POINT / place} in the guest, which bpfmatrix writes",
                    "Rename it.",
                )
            if found.setdefault(place, path) != path:
                raise PayloadError(
                    f"{path} and {found[place]} would both be {MOUNT_POINT / place} in the guest",
                    "Rename one of them.",
                )
        for place, path in found.items():
            _require_place(place, path)
        for place, path in found.items():
            for folder in PurePosixPath(place).parents:
                if str(folder) in found:
                    raise PayloadError(
                        f"{found[str(folder)]} would be {MOUNT_POINT / folder} in the guest, "
                        f"which is the folder of {path}",
                        "Rename it.",
                    )
        return found

    def _require_apart(self) -> None:
        """PayloadError if the logs of tests, and the executables beside them, are in the way."""
        # With --core, executables are kept beside the logs.
        logs = {f"{test.name}.log": test for test in self.tests}
        folders = {
            str(folder): test
            for test in self.tests
            for folder in PurePosixPath(test.place).parents
            if test.package
        }
        for test in self.tests:
            if (other := logs.get(test.place, test)) is not test:
                raise PayloadError(
                    f"{test.path} has the name of the log of {other.path}", "Rename one of them."
                )
            if within := folders.get(f"{test.name}.log") or folders.get(test.place):
                raise PayloadError(
                    f"the log of {test.name} would be in the place of a folder with the log of "
                    f"{within.name}",
                    "Rename one of them.",
                )

    def mode(self, place: str) -> int:
        """Return the permissions of a file in the image: 0755 or 0644."""
        if place in self.extra:
            return 0o755 if self.extra[place].stat().st_mode & 0o111 else 0o644
        # The import path of a package may begin with the same word.
        return 0o755 if any(place == test.place for test in self.tests) else 0o644


def _require_test_name(test: Executable) -> None:
    """PayloadError if a result, or the files with a test's logs, can't have the test's name."""
    path, name = test.path, test.name
    if not name:
        raise PayloadError(f"{path} can't be a test: it has no name", "Rename it.")
    if _CONSOLE_LOG.fullmatch(f"{name}.log") or _CONSOLE_LOG.fullmatch(path.name):
        raise PayloadError(
            f"{path} can't be a test: its output would be in {name}.log, which is the kernel's",
            "Rename it.",
        )
    if len(os.fsencode(PurePosixPath(name).name)) > _NAME_BYTES - len(".log"):
        raise PayloadError(
            f"the test {path.name[:40]}... has a name of {len(os.fsencode(path.name))} bytes, "
            "which is too long for the name of its log",
            f"Rename it: {_NAME_BYTES - len('.log')} bytes are allowed.",
        )
    _require_printable(path)


def _require_printable(path: Path) -> None:
    if not path.name.isprintable():
        raise PayloadError(
            f"{path.name!r} has a character in its name that can't be printed, such as a newline",
            "Rename it.",
        )


def _require_place(place: str, path: Path) -> None:
    """PayloadError if the payload's file system, or its checksum, can't have a path."""
    parts = PurePosixPath(place).parts
    if any(len(os.fsencode(part)) > _NAME_BYTES for part in parts) or len(place) > _PATH_CHARACTERS:
        raise PayloadError(
            f"a file would be {MOUNT_POINT}/{place[:60]}... in the guest, and that is too long",
            f"A name may have {_NAME_BYTES} bytes, and a path {_PATH_CHARACTERS} characters.",
        )
    if parts[0] == "lost+found":
        raise PayloadError(
            f"{path} would be {MOUNT_POINT / place} in the guest, which is ext4's own", "Rename it."
        )
    try:
        place.encode()
    except UnicodeEncodeError:
        raise PayloadError(f"{place!r}: the name is not UTF-8", "Rename it.") from None


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise UsageError(f"--run {pattern}: not a regular expression: {error}") from None
