"""Packages of Debian as dpkg-deb builds them, and what is no package."""

import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels.formats import deb

COMPRESSIONS = ("none", "gzip", "xz", "zstd")


def build(folder: Path, compression: str = "xz") -> Path:
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: linux-image-x\nVersion: 1:6.1-2\nArchitecture: amd64\n"
        "Maintainer: A <a@example.org>\nDescription: a kernel\n"
    )
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/tool").write_bytes(b"tool" * 1000)
    (tree / "usr/bin/tool").chmod(0o755)
    (tree / "usr/bin/same").hardlink_to(tree / "usr/bin/tool")
    (tree / "usr/bin/other").symlink_to("tool")
    (tree / "small").write_bytes(b"small")
    made = folder / "x.deb"
    command = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", str(tree), str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_package_of_each_compression(tmp_path: Path, compression: str) -> None:
    made = build(tmp_path, compression)
    fields = deb.control(made)
    assert (fields["Package"], fields["Version"]) == ("linux-image-x", "1:6.1-2")
    with deb.data(made) as archive:
        assert "./usr/bin/tool" in archive.getnames()
    root = tmp_path / "root"
    deb.extract(made, root)
    assert (root / "usr/bin/other").readlink() == Path("tool")
    assert (root / "usr/bin/same").read_bytes() == b"tool" * 1000
    assert (root / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "small").read_bytes() == b"small"


def test_the_largest_file_of_a_name(package: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert deb.extract_file(package, lambda name: name in ("small", "usr/bin/same"), target)
    assert target.read_bytes() == b"tool" * 1000
    assert not deb.extract_file(package, lambda name: name == "tool", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_package_is_an_error_that_names_it(package: Path, data: st.DataObject) -> None:
    content = bytearray(package.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    damaged = package.with_name("damaged.deb")
    damaged.write_bytes(content)
    said = ""
    try:
        deb.control(damaged)
        with deb.data(damaged) as archive:
            for member in archive:
                if file := archive.extractfile(member) if member.isreg() else None:
                    file.read()
    except BpfmatrixError as error:
        said = error.what
    assert said in ("", "the package damaged.deb can't be read")


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out"])
def test_a_package_that_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    subprocess.run(["ar", "rc", "x.deb", "data.tar"], cwd=tmp_path, check=True)
    with pytest.raises(BpfmatrixError, match=r"the package x\.deb can't be read"):
        deb.extract(tmp_path / "x.deb", tmp_path / "inner/root")
    assert not list(tmp_path.rglob("out"))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("a/b"))
    (tmp_path / "outside").mkdir()
    subprocess.run(["ar", "rc", "x.deb", "data.tar"], cwd=tmp_path, check=True)
    with pytest.raises((BpfmatrixError, OSError)):
        deb.extract(tmp_path / "x.deb", tmp_path / "root")
    assert list((tmp_path / "outside").iterdir()) == []
