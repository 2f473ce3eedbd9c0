"""Packages as files: real `.deb` and `.rpm`, by paths and from a web server on loopback."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from tests.kernels import synthetic
from tests.kernels.archive import Archive
from tests.kernels.conftest import add_kernel, kernel_parts
from tests.kernels.rpms import build_rpms
from tests.web import Web

pytestmark = pytest.mark.integration


def package_kernel(root: Path, *files: str, sha256: list[str | None] | None = None) -> KernelConfig:
    asked: dict[str, object] = {"files": list(files)}
    if sha256:
        asked["sha256"] = sha256
    source = Source.model_validate({"package": asked})
    return KernelConfig.model_validate({"id": "x", "source": source, "root": root})


@pytest.fixture(scope="session")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """kernel-core and kernel-modules-core."""
    folder = tmp_path_factory.mktemp("rpms") / "out"
    return build_rpms(folder, kernel_parts("6.1.190-9.el9"))[:2]


@pytest.fixture
def web(rpms: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Web(tmp_path / "web")
    for rpm in rpms:
        (served.root / rpm.name).symlink_to(rpm)
    yield served
    served.stop()


def test_rpms_by_path(cache: Cache, rpms: list[Path]) -> None:
    # Relative to the folder of kernels.yaml.
    kernel = package_kernel(rpms[0].parent, *(rpm.name for rpm in rpms))
    image, was_cached = kernels.provide(kernel, cache)
    assert (image.release, was_cached) == ("6.1.190-9.el9.x86_64", False)
    assert image.description == "6.1.190 (Example Linux 6.1.190-9.el9, package)"
    assert image.modules is not None
    assert (image.modules / "kernel/a.ko").read_bytes() == synthetic.module()
    assert [p.sha256 for p in image.provenance.packages] == [sha256_of(rpm) for rpm in rpms]
    assert kernels.provide(kernel, cache) == (image, True)
    assert kernels.update(kernel, cache) == image


def test_a_file_that_is_another_one_now_is_taken_anew(
    cache: Cache, tmp_path: Path, rpms: list[Path]
) -> None:
    copy = tmp_path / "kernel.rpm"
    copy.write_bytes(rpms[0].read_bytes())
    kernel = package_kernel(tmp_path, "kernel.rpm")
    first, _ = kernels.provide(kernel, cache)
    (newer,) = build_rpms(
        tmp_path / "newer",
        {"kernel-core": kernel_parts("6.1.195-1.el9")["kernel-core"]},
        "6.1.195-1",
    )
    copy.write_bytes(newer.read_bytes())
    second, was_cached = kernels.provide(kernel, cache)
    assert (first.version, second.version, was_cached) == ("6.1.190", "6.1.195", False)
    copy.unlink()
    assert kernels.provide(kernel, cache) == (second, True)


def test_debs_by_address(cache: Cache, tmp_path: Path, keyring: Path) -> None:
    with Archive(tmp_path / "archive", keyring.parent) as archive:
        deb = add_kernel(archive, "6.1.0-9", "6.1.190-1")
        url = f"{archive.uri}pool/{deb.name}"
        image, _ = kernels.provide(package_kernel(tmp_path, url, sha256=[sha256_of(deb)]), cache)
    assert image.version == "6.1.190"
    assert image.description == "6.1.190 (6.1.190-1, package)"
    assert image.read_modules(["kernel/a.ko"]) == {"kernel/a.ko": synthetic.module()}


def test_rpms_by_address(cache: Cache, web: Web, rpms: list[Path], tmp_path: Path) -> None:
    urls = [f"{web.uri}{rpm.name}" for rpm in rpms]
    kernel = package_kernel(tmp_path, *urls, sha256=[sha256_of(rpm) for rpm in rpms])
    image, _ = kernels.provide(kernel, cache)
    assert len(image.provenance.packages) == 2
    fetched = len(web.requests)
    assert kernels.update(kernel, cache) == image
    assert len(web.requests) == fetched
    assert list((cache.root / "tmp").glob("*")) == []


def test_what_can_not_be_had(cache: Cache, web: Web, rpms: list[Path], tmp_path: Path) -> None:
    url, right = f"{web.uri}{rpms[0].name}", sha256_of(rpms[0])

    def said(*files: str, sha256: list[str | None] | None = None) -> BpfmatrixError:
        with pytest.raises(KernelUnavailableError) as raised:
            kernels.provide(package_kernel(tmp_path, *files, sha256=sha256), cache)
        return raised.value

    wrong = "0" * 64
    assert (
        said(url, sha256=[wrong]).what
        == f"x: {url} has the SHA-256 {right}, not that of kernels.yaml"
    )
    assert said(str(rpms[0]), sha256=[wrong]).what.startswith(
        f"x: {rpms[0]} has the SHA-256 {right}"
    )
    assert said("nowhere.rpm").what == f"x: {tmp_path}/nowhere.rpm: no such file"
    assert "answers HTTP 404" in said(f"{web.uri}nowhere.rpm", sha256=[wrong]).what
    web.cut_after = 1000
    assert "ended after 1000 of" in said(url, sha256=[right]).what
    web.cut_after, web.status = None, 502
    assert "can't be reached (HTTP 502)" in said(url, sha256=[right]).what
    web.stop()
    error = said(url, sha256=[right])
    assert error.what == f"x: {url} can't be reached and no kernel of this series is cached."
    assert list((cache.root / "tmp").glob("*")) == []


def test_what_is_no_package_or_no_kernel(cache: Cache, rpms: list[Path], tmp_path: Path) -> None:
    def said(content: bytes, name: str = "a.rpm") -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BpfmatrixError) as raised:
            kernels.provide(package_kernel(tmp_path, name), cache)
        return raised.value.what

    whole = rpms[0].read_bytes()
    assert "a.rpm is not a package" in said(b"<html>")
    assert "a.rpm is not a package" in said(b"")
    assert "the package a.rpm can't be read" in said(whole[:400])
    assert "the package a.rpm can't be read" in said(whole[:-200])
    assert "the package a.rpm can't be read" in said(b"!<arch>\n" + whole)
    assert "there is no kernel in it" in said(rpms[1].read_bytes())


def test_nothing_is_written_elsewhere(cache: Cache, tmp_path: Path) -> None:
    import subprocess
    import tarfile
    from io import BytesIO

    # A package by hand, as dpkg-deb makes none with such names: deb(5).
    folder = tmp_path / "deb"
    folder.mkdir()
    (folder / "debian-binary").write_text("2.0\n")
    for name, files in (
        ("control.tar", {"./control": b"Package: bad\nVersion: 1\nArchitecture: amd64\n"}),
        ("data.tar", {"./lib/modules/x/../../../../../../bad": b"x", "/boot/vmlinuz-1": b"x"}),
    ):
        with tarfile.open(folder / name, "w") as archive:
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    names = ["debian-binary", "control.tar", "data.tar"]
    subprocess.run(["ar", "qS", "../bad.deb", *names], cwd=folder, check=True, capture_output=True)
    with pytest.raises(BpfmatrixError):
        kernels.provide(package_kernel(tmp_path, "bad.deb"), cache)
    assert not [path for path in tmp_path.rglob("*") if path.name == "bad"]


def deb(path: Path, files: dict[str, bytes]) -> Path:
    """Write a `.deb` (deb(5)) with these files, with names that dpkg-deb would refuse."""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar": tar({"./control": b"Package: linux\nVersion: 6.1.190-1\n"}),
        "data.tar": tar(files),
    }
    data = b"!<arch>\n"
    for name, content in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    path.write_bytes(data)
    return path


def tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


KERNEL = {"./boot/vmlinuz-6.1.190": synthetic.bzimage(release="6.1.190")}
MODULES = "./lib/modules"


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("folder", ["./boot/vmlin{}-6.1.190", "./usr/lib/modules/6.1.190/vmlin{}"])
def test_a_vmlinuz_is_the_kernel_whatever_lies_beside_it(
    cache: Cache, tmp_path: Path, folder: str, is_first: bool
) -> None:
    kernel = {folder.format("uz"): synthetic.bzimage(release="6.1.190")}
    others = {folder.format(end): b"no kernel" for end in ("ux", "ux.gz", "ux.xz")}
    deb(tmp_path / "a.deb", {**kernel, **others} if is_first else {**others, **kernel})
    image, _ = kernels.provide(package_kernel(tmp_path, "a.deb"), cache)
    assert image.vmlinuz.read_bytes() == synthetic.bzimage(release="6.1.190")


def test_a_vmlinux_alone_is_the_kernel_but_no_packed_one(cache: Cache, tmp_path: Path) -> None:
    vmlinux = synthetic.vmlinux(text=b"Linux version 6.1.190 (a@b) #1\0")
    deb(tmp_path / "a.deb", {"./boot/vmlinux-6.1.190": vmlinux, "./boot/vmlinux-1.gz": b"x"})
    image, _ = kernels.provide(package_kernel(tmp_path, "a.deb"), cache)
    assert image.vmlinuz.read_bytes() == vmlinux
    deb(tmp_path / "b.deb", {"./boot/vmlinux-6.1.190.gz": b"x"})
    with pytest.raises(KernelUnavailableError, match="there is no kernel in it"):
        kernels.provide(package_kernel(tmp_path, "b.deb"), cache)


@pytest.mark.parametrize(
    ("release", "shown"),
    [("-x", "'-x'"), ("a b", "'a b'"), ("6.1\n", r"'6.1\n'"), ("x" * 65, "'x*'"), ("$(id)", "")],
)
def test_a_folder_of_modules_that_is_no_release_is_refused(
    cache: Cache, tmp_path: Path, release: str, shown: str
) -> None:
    deb(tmp_path / "a.deb", {**KERNEL, f"{MODULES}/{release}/kernel/a.ko": synthetic.module()})
    with pytest.raises(BpfmatrixError, match="can't be the release of a kernel") as caught:
        kernels.provide(package_kernel(tmp_path, "a.deb"), cache)
    assert shown.rstrip("*'") in caught.value.what
    assert not any((cache.root / "kernels").rglob("vmlinuz"))


@pytest.mark.parametrize(
    "names",
    [
        ("6.1.190/kernel", "6.1.190/kernel/a.ko"),
        ("6.1.190/kernel/a.ko/b.ko", "6.1.190/kernel/a.ko.gz"),
        (f"6.1.190/kernel/{'a' * 256}.ko",),
        (f"6.1.190/kernel/{'a/' * 2500}a.ko",),
    ],
)
def test_names_that_no_file_system_takes_are_one_sentence(
    cache: Cache, tmp_path: Path, names: tuple[str, ...]
) -> None:
    files = {f"{MODULES}/{name}": synthetic.module() for name in names}
    deb(tmp_path / "a.deb", {**KERNEL, **files})
    with pytest.raises(BpfmatrixError, match="a file of the kernel can't be unpacked") as caught:
        kernels.provide(package_kernel(tmp_path, "a.deb"), cache)
    assert len(caught.value.what) < 300


def test_a_package_may_have_the_name_of_an_option(cache: Cache, tmp_path: Path) -> None:
    files = {**KERNEL, f"{MODULES}/6.1.190/kernel/-x.ko": synthetic.module()}
    deb(tmp_path / "--help", files)
    image, _ = kernels.provide(package_kernel(tmp_path, "--help"), cache)
    assert image.modules is not None
    assert "kernel/-x.ko:" in (image.modules / "modules.dep").read_text()
