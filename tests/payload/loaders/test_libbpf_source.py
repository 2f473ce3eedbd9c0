"""The pinned libbpf: what passes, what is refused, and what is said where it can't be had."""

import io
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError, KernelUnavailableError, UnreachableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import silent
from bpfmatrix.payload import shipped
from bpfmatrix.payload.loaders import libbpf_source
from bpfmatrix.payload.loaders.libbpf_source import PINNED, Pin, check, digest
from tests.kernels.archive import Archive
from tests.kernels.conftest import keyring, use_host_settings

__all__ = ["keyring"]

FILES = {"tools/lib/bpf/libbpf.c": b"int a;\n", "tools/include/uapi/linux/bpf.h": b"int b;\n"}
PIN = Pin("7.3", "trixie-backports", digest(FILES))


def test_the_order_of_files_does_not_matter() -> None:
    check(dict(reversed(FILES.items())), PIN, "7.3.5-1")


@pytest.mark.parametrize(
    "files",
    [
        FILES | {"tools/lib/bpf/libbpf.c": b"int A;\n"},
        FILES | {"tools/lib/bpf/new.c": b""},
        {name.replace("libbpf", "LIBBPF"): content for name, content in FILES.items()},
        {"tools/lib/bpf/libbpf.c": FILES["tools/lib/bpf/libbpf.c"]},
    ],
)
def test_other_files_are_refused(files: Mapping[str, bytes]) -> None:
    with pytest.raises(BuildError) as caught:
        check(files, PIN, "7.3.5-1")
    said = "linux-source-7.3 7.3.5-1 has another libbpf than the pinned 1.8"
    assert caught.value.what == said


def kernel(files: Mapping[str, bytes]) -> bytes:
    """The tarball of a kernel's sources, as Debian's package has it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"linux-source-7.3/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return lzma.compress(content.getvalue(), preset=0)


@pytest.fixture(scope="session")
def real() -> dict[str, bytes]:
    """The files of the pinned libbpf, from Debian."""
    with tarfile.open(libbpf_source.obtain(Cache.default(), silent)) as tar:
        files = ((entry.name, tar.extractfile(entry)) for entry in tar)
        return {name: file.read() for name, file in files if file is not None}


@pytest.fixture
def archive(tmp_path: Path, keyring: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """An archive of Debian without packages, which the host's apt uses."""
    suite = PINNED[0].suite
    with Archive(tmp_path / "archive", keyring.parent, suite=suite) as served:
        served.publish()
        line = f"deb [signed-by={keyring}] {served.uri} {served.suite} main\n"
        use_host_settings(tmp_path, monkeypatch, line)
        yield served


def add(archive: Archive, version: str, files: Mapping[str, bytes]) -> None:
    name = f"linux-source-{PINNED[0].series}"
    archive.add(name, version, {f"usr/src/{name}.tar.xz": kernel(files)})
    archive.publish()


@pytest.mark.integration
def test_a_release_with_the_same_libbpf_passes(
    archive: Archive, cache: Cache, real: dict[str, bytes]
) -> None:
    others = {
        "Makefile": b"SUBLEVEL = 99\n",
        "tools/include/linux/other.h": b"",
        "tools/lib/a.c": b"",
    }
    add(archive, "7.3.99-1", real | others)
    path = libbpf_source.obtain(cache, silent)
    with tarfile.open(path) as tar:
        assert sorted(tar.getnames()) == sorted(real)
    archive.stop()
    assert libbpf_source.obtain(cache, silent) == path


@pytest.mark.integration
def test_a_release_with_another_libbpf_is_refused(
    archive: Archive, cache: Cache, real: dict[str, bytes]
) -> None:
    add(archive, "7.3.99-1", real | {"tools/lib/bpf/libbpf.c": b"int main;\n"})
    with pytest.raises(BuildError, match=r"7\.3\.99-1 has another libbpf than the pinned 1\.8"):
        libbpf_source.obtain(cache, silent)
    assert not list(cache.root.glob("loader-sources/*"))
    assert not list((cache.root / "tmp").iterdir())


@pytest.mark.integration
def test_a_package_that_is_gone_is_said(archive: Archive, cache: Cache) -> None:
    with pytest.raises(
        KernelUnavailableError, match=r"^Debian no longer has linux-source-7\.3"
    ) as caught:
        libbpf_source.obtain(cache, silent)
    assert caught.value.advice.startswith("Update bpfmatrix, or install its wheel")


@pytest.mark.integration
def test_without_a_network_it_says_what_to_do(archive: Archive, library_project: Project) -> None:
    archive.stop()
    with pytest.raises(UnreachableError):
        libbpf_source.obtain(library_project.cache, silent)
    with pytest.raises(BuildError) as caught:
        shipped.loader(library_project, "libbpf", "x86_64")
    assert caught.value.what.startswith("loader-libbpf for x86_64 can't be built: ")
    assert caught.value.what.endswith("can't be reached")
    assert "try again with a network, or install bpfmatrix's wheel" in caught.value.advice
