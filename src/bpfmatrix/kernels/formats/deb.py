"""The format of Debian's package files (deb(5)): an ar archive with two tar archives in it.

It is read without dpkg, which only Debian and its derivatives have. python-debian reads the outer
archive; its reader of the inner ones starts `unzstd` for zstd, which Ubuntu's packages use.
"""

import bz2
import contextlib
import gzip
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from bpfmatrix.errors import BpfmatrixError

if TYPE_CHECKING:
    from debian.deb822 import Deb822

__all__ = ["MAGIC", "control", "data", "extract", "extract_file", "write_data"]

MAGIC = b"!<arch>\n"


def control(path: Path) -> "Deb822":
    """Return the fields of a package's control file; BpfmatrixError if it is damaged."""
    from debian.deb822 import Deb822  # noqa: PLC0415 - off the start-up path

    with _part(path, "control.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if PurePosixPath(member.name) == PurePosixPath("control") and member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                return Deb822(file.read())
    raise _damaged(path, "it has no control file")


@contextlib.contextmanager
def data(path: Path) -> Iterator[tarfile.TarFile]:
    """Give the files of a package, as a tar archive that is read once, from its start to its end.

    BpfmatrixError if the package turns out to be damaged within this context.
    """
    with _part(path, "data.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        yield archive


def write_data(path: Path, target: Path) -> None:
    """Write the tar archive of a package's files, decompressed."""
    with _part(path, "data.tar") as stream, target.open("wb") as made:
        shutil.copyfileobj(stream, made, 1 << 20)


def extract_file(path: Path, is_wanted: Callable[[str], bool], target: Path) -> bool:
    """Write the largest regular file whose name is wanted to `target`; return whether there is one.

    Names are relative to the root, as in `usr/src/linux-source-6.1.tar.xz`.
    """
    largest = -1
    with data(path) as archive:
        for member in archive:
            name = str(PurePosixPath(member.name))
            if member.isreg() and member.size > largest and is_wanted(name):
                largest, file = member.size, archive.extractfile(member)
                assert file is not None
                with target.open("wb") as made:
                    shutil.copyfileobj(file, made, 1 << 20)
    return largest >= 0


def extract(path: Path, folder: Path) -> None:
    """Extract a package's folders, regular files and links into a folder."""
    links: list[tuple[Path, str]] = []
    with data(path) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if ".." in parts or PurePosixPath(member.name).is_absolute():
                raise _damaged(path, f"it has a file {member.name!r}")
            target = folder.joinpath(*parts)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.issym():
                links.append((target, member.linkname))
            elif member.islnk():  # the name of a file that came before
                named = PurePosixPath(member.linkname)
                if ".." in named.parts or named.is_absolute():
                    raise _damaged(path, f"it has a link to {member.linkname!r}")
                target.hardlink_to(folder / named)
            elif member.isreg() and (file := archive.extractfile(member)):
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as made:
                    shutil.copyfileobj(file, made, 1 << 20)
                target.chmod(member.mode & 0o777 | 0o600)
    # Last, so that nothing was written through a link.
    for target, leads_to in links:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(leads_to)


@contextlib.contextmanager
def _part(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Give one of the two tar archives, decompressed."""
    from debian.arfile import ArError, ArFile  # noqa: PLC0415 - off the start-up path

    try:
        with path.open("rb") as file:
            for member in ArFile(fileobj=file):
                if member.name.startswith(name):
                    yield _decompressed(cast(IO[bytes], member), member.name[len(name) :])
                    return
        raise _damaged(path, f"it has no {name}")
    except (ArError, tarfile.TarError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        if error.errno is not None:  # of the host's files, such as a full disk
            raise
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> BpfmatrixError:
    return BpfmatrixError(
        f"the package {path.name} can't be read", f"It is damaged or incomplete: {why[-200:]}"
    )


def _decompressed(stream: IO[bytes], suffix: str) -> IO[bytes]:
    match suffix:
        case "":
            return stream
        case ".gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
        case ".xz" | ".lzma":
            return lzma.LZMAFile(stream)
        case ".bz2":
            return bz2.BZ2File(stream)
        case ".zst":
            import zstandard  # noqa: PLC0415 - off the start-up path

            reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
            return cast(IO[bytes], _ZstdErrors(reader))
    raise ValueError(f"its compression {suffix} is unknown")


class _ZstdErrors:
    """A reader whose errors are those of other formats: zstandard's have no base but Exception."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        import zstandard  # noqa: PLC0415 - off the start-up path

        try:
            return self._stream.read(size)
        except zstandard.ZstdError as error:
            raise EOFError(str(error)) from error
