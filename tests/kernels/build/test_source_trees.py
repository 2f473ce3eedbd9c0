"""Where the sources of a build come from: downloads, checksums, signatures, trees."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.config.sources import BuildSource
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import silent
from bpfmatrix.kernels.build import kernelorg, source_trees
from tests.cutting_proxy import CuttingProxy
from tests.kernels.archive import gpg, make_key
from tests.kernels.kernelorg import KernelOrg, source_tree

SUM = "0123456789abcdef" * 4
BASE = "https://example.org/pub/linux/kernel/"


@pytest.mark.parametrize(
    ("version", "url"),
    [
        ("5.4.276", f"{BASE}v5.x/linux-5.4.276.tar.xz"),
        ("6.1.0", f"{BASE}v6.x/linux-6.1.tar.xz"),
        ("10.2.13", f"{BASE}v10.x/linux-10.2.13.tar.xz"),
    ],
)
def test_url_of_a_release(version: str, url: str) -> None:
    assert kernelorg.url_of(BASE, version) == url


@pytest.mark.parametrize("version", ["", "6", "6.1-rc1", "v6.1", "6.1.2.3", "6.1/../..", "next"])
def test_no_release(version: str) -> None:
    with pytest.raises(UsageError, match="no release called"):
        kernelorg.url_of(BASE, version)


def test_sums() -> None:
    text = f"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

{SUM}  ChangeLog-6.1.9
{SUM}  linux-6.1.tar.gz
{SUM}  linux-6.1.tar.xz
{SUM}  linux-6.1.9.tar.xz
{SUM}  linux-6.1.10.tar.xz
{SUM}  linux-6.12.1.tar.xz
{SUM}  patch-6.1.9.xz
{SUM[:-1]}  linux-6.2.tar.xz
-----BEGIN PGP SIGNATURE-----
"""
    sums = kernelorg.parse_sums(text)
    assert sums == dict.fromkeys(("6.1.0", "6.1.9", "6.1.10", "6.12.1"), SUM)
    assert kernelorg.newest(sums, "6.1") == "6.1.10"
    assert kernelorg.newest(sums, "6.1.9") == "6.1.9"
    assert kernelorg.newest(sums, "6.1.11") is None
    assert kernelorg.newest(sums, "6.2") is None


def test_a_pinned_checksum_is_one_release_s() -> None:
    release = kernelorg.resolve(BASE, "5.4.276", None, SUM)
    assert (release.sha256, release.checked) == (SUM, "checksum pinned")
    with pytest.raises(UsageError, match=r"5\.4 is a series"):
        kernelorg.resolve(BASE, "5.4", None, SUM)


@pytest.fixture
def org(tmp_path: Path, keyring: Path) -> Iterator[KernelOrg]:
    served = KernelOrg(tmp_path / "org", key_home=keyring.parent)
    served.put("5.4.275", source_tree("5.4.275"))
    served.put("5.4.276", source_tree("5.4.276"))
    served.publish()
    served.start()
    yield served
    served.stop()


def source(org: KernelOrg, version: str = "5.4", **more: str) -> BuildSource:
    return BuildSource.model_validate({"version": version, "url": org.url, **more})


def provide(
    source: BuildSource, tmp_path: Path, cache: Cache
) -> tuple[source_trees.Origin, source_trees.Tree]:
    origin = source_trees.locate(source, "x86_64", tmp_path, cache, silent)
    build = tmp_path / "ci-kernels/_build"
    build.mkdir(parents=True, exist_ok=True)
    return origin, origin.provide(build, cache, silent)


@pytest.mark.integration
def test_newest_of_a_series_with_its_signature_checked(
    org: KernelOrg, keyring: Path, tmp_path: Path, cache: Cache
) -> None:
    origin, tree = provide(source(org, keyring=str(keyring)), tmp_path, cache)
    assert tree.version == origin.version == origin.package.version == "5.4.276"
    assert tree.path == tmp_path / "ci-kernels/_build/linux-5.4.276"
    assert (tree.path / "Kconfig").exists()
    assert origin.source.startswith("kernel.org, signed by ")
    assert list((cache.root / "sources").iterdir()) == []
    # It is there now: nothing is fetched again.
    provide(source(org, keyring=str(keyring)), tmp_path, cache)
    assert org.statuses("linux-5.4.276.tar.xz") == [200]


@pytest.mark.integration
def test_without_a_network_the_sources_that_are_there_serve(
    org: KernelOrg, tmp_path: Path, cache: Cache
) -> None:
    provide(source(org, "5.4.275"), tmp_path, cache)
    provide(source(org), tmp_path, cache)
    build = tmp_path / "ci-kernels/_build"
    found = source_trees.at_hand(source(org), build)
    assert found is not None
    assert (found.version, found.source) == ("5.4.276", "kernel.org, signature not checked")
    assert found.provide(build, cache, silent).path == build / "linux-5.4.276"
    assert source_trees.at_hand(source(org, "5.4.27"), build) is None
    assert source_trees.at_hand(source(org, sha256=SUM), build) is None
    apt = BuildSource.model_validate({"version": "5.4", "from": "apt"})
    assert source_trees.at_hand(apt, build) is None


@pytest.mark.integration
def test_without_a_keyring_it_says_so(org: KernelOrg, tmp_path: Path, cache: Cache) -> None:
    origin = source_trees.locate(source(org, "5.4.275"), "x86_64", tmp_path, cache, silent)
    assert origin.source == "kernel.org, signature not checked"


@pytest.mark.integration
def test_an_armored_keyring(org: KernelOrg, keyring: Path, tmp_path: Path, cache: Cache) -> None:
    gpg(keyring.parent, "--armor", "--output", str(tmp_path / "keys.asc"), "--export")
    origin = source_trees.locate(source(org, keyring="keys.asc"), "x86_64", tmp_path, cache, silent)
    assert "signed by" in origin.source


@pytest.mark.integration
def test_signed_by_another_key(org: KernelOrg, tmp_path: Path, cache: Cache) -> None:
    other = make_key(Path(f"/tmp/gpg-{os.getpid()}"))  # a socket's path must be short
    try:
        with pytest.raises(KernelUnavailableError, match=r"is signed by the key .* does not have"):
            source_trees.locate(source(org, keyring=str(other)), "x86_64", tmp_path, cache, silent)
    finally:
        subprocess.run(["gpgconf", "--homedir", other.parent, "--kill", "all"], check=False)
        subprocess.run(["rm", "-r", other.parent], check=True)


@pytest.mark.integration
def test_changed_after_it_was_signed(
    org: KernelOrg, keyring: Path, tmp_path: Path, cache: Cache
) -> None:
    sums = org.folder / "www/v5.x/sha256sums.asc"
    sums.write_text(sums.read_text().replace("linux-5.4.275", "linux-5.4.277"))
    with pytest.raises(KernelUnavailableError, match="changed after it was signed"):
        source_trees.locate(source(org, keyring=str(keyring)), "x86_64", tmp_path, cache, silent)


@pytest.mark.integration
def test_no_signature_at_all(org: KernelOrg, keyring: Path, tmp_path: Path, cache: Cache) -> None:
    sums = org.folder / "www/v5.x/sha256sums.asc"
    sums.write_bytes((sums.parent / "sha256sums").read_bytes())
    with pytest.raises(KernelUnavailableError, match="has no signature"):
        source_trees.locate(source(org, keyring=str(keyring)), "x86_64", tmp_path, cache, silent)


@pytest.mark.integration
def test_no_keyring_there(org: KernelOrg, tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(UsageError, match=r"keyring .* can't be read"):
        source_trees.locate(source(org, keyring="nowhere.gpg"), "x86_64", tmp_path, cache, silent)


@pytest.mark.integration
@pytest.mark.parametrize("version", ["5.4.277", "5.5"])
def test_a_release_that_is_not_there(
    org: KernelOrg, tmp_path: Path, cache: Cache, version: str
) -> None:
    with pytest.raises(KernelUnavailableError, match=f"names no release {version}"):
        source_trees.locate(source(org, version), "x86_64", tmp_path, cache, silent)


@pytest.mark.integration
def test_a_series_that_the_server_does_not_have(
    org: KernelOrg, tmp_path: Path, cache: Cache
) -> None:
    with pytest.raises(KernelUnavailableError, match=r"sha256sums\.asc answers HTTP 404"):
        source_trees.locate(source(org, "6.1"), "x86_64", tmp_path, cache, silent)


@pytest.mark.integration
def test_a_pinned_checksum_needs_no_signed_one(
    org: KernelOrg, tmp_path: Path, cache: Cache
) -> None:
    tarball = org.folder / "www/v5.x/linux-5.4.275.tar.xz"
    (tarball.parent / "sha256sums.asc").unlink()
    sha256 = hashlib.sha256(tarball.read_bytes()).hexdigest()
    origin, tree = provide(source(org, "5.4.275", sha256=sha256), tmp_path, cache)
    assert (origin.source, tree.version) == ("kernel.org, checksum pinned", "5.4.275")


@pytest.mark.integration
def test_a_wrong_checksum(org: KernelOrg, tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(KernelUnavailableError, match=f"has the SHA-256 (?!{SUM})"):
        provide(source(org, "5.4.275", sha256=SUM), tmp_path, cache)
    assert not (tmp_path / "ci-kernels/_build/linux-5.4.275").exists()
    assert list((cache.root / "sources").iterdir()) == []


@pytest.mark.integration
def test_a_tarball_that_was_published_truncated(
    org: KernelOrg, tmp_path: Path, cache: Cache
) -> None:
    whole = source_tree("5.4.276", os.urandom(1 << 20))
    org.put("5.4.276", whole[: len(whole) // 2])
    org.publish()
    with pytest.raises(BpfmatrixError, match="can't be unpacked"):
        provide(source(org), tmp_path, cache)
    assert [path.name for path in (tmp_path / "ci-kernels/_build").iterdir()] == []


@pytest.mark.integration
def test_a_tarball_of_something_else(org: KernelOrg, tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "else/linux").mkdir(parents=True)
    (tmp_path / "else/linux/README").write_text("no kernel")
    tarball = tmp_path / "else.tar.xz"
    subprocess.run(["tar", "-cJf", tarball, "-C", tmp_path / "else", "linux"], check=True)
    org.put("5.4.276", tarball)
    org.publish()
    with pytest.raises(BpfmatrixError, match="is not a source tree of Linux"):
        provide(source(org), tmp_path, cache)


@pytest.mark.integration
def test_a_server_that_goes_away(org: KernelOrg, tmp_path: Path, cache: Cache) -> None:
    origin = source_trees.locate(source(org), "x86_64", tmp_path, cache, silent)
    org.stop()
    (tmp_path / "build").mkdir()
    with pytest.raises(UnreachableError, match="can't be reached") as caught:
        origin.provide(tmp_path / "build", cache, silent)
    assert "name another server with this layout" in caught.value.advice


@pytest.mark.integration
def test_an_interrupted_tarball_is_resumed(org: KernelOrg, tmp_path: Path, cache: Cache) -> None:
    path = org.put("5.4.276", source_tree("5.4.276", os.urandom(3 << 20)))
    org.publish()
    proxy = CuttingProxy(org.port, limit_bytes=2 << 20)

    def interrupt(text: str, fraction: float | None = None) -> None:
        if fraction:
            raise KeyboardInterrupt

    through_proxy = source(org).model_copy(update={"url": f"http://{proxy.host}"})
    origin = source_trees.locate(through_proxy, "x86_64", tmp_path, cache, silent)
    build = tmp_path / "build"
    build.mkdir()
    with pytest.raises(KeyboardInterrupt):
        origin.provide(build, cache, interrupt)
    assert (cache.root / f"sources/{path.name}.part").stat().st_size > 0
    assert origin.provide(build, cache, silent).version == "5.4.276"
    proxy.close()
    assert org.statuses(path.name)[1:] == [206, 206]


def tree_in(folder: Path, version: str = "6.18.0") -> Path:
    major, minor, patch = version.split(".")
    folder.mkdir()
    (folder / "Kconfig").touch()
    (folder / "Makefile").write_text(
        f"# SPDX\nVERSION = {major}\nPATCHLEVEL = {minor}\nSUBLEVEL = {patch}\n"
        "EXTRAVERSION = -rc3\nNAME = Baby\n"
    )
    return folder


def local(folder: Path, version: str = "6.18") -> BuildSource:
    return BuildSource.model_validate({"version": version, "from": str(folder)})


def test_a_folder(tmp_path: Path, cache: Cache) -> None:
    folder = tree_in(tmp_path / "linux")
    origin, tree = provide(local(folder), tmp_path, cache)
    assert (tree.path, tree.version) == (folder, "6.18.0-rc3")
    assert origin.source == f"folder {folder}"
    assert list((tmp_path / "ci-kernels/_build").iterdir()) == []


def test_a_git_checkout(tmp_path: Path, cache: Cache) -> None:
    folder = tree_in(tmp_path / "linux")
    git = ["git", "-C", folder, "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "A"], ["tag", "-am", "", "v6"]):
        subprocess.run([*map(str, git), *words], check=True)
    assert (
        source_trees.locate(local(folder), "x86_64", tmp_path, cache, silent).package.version
        == "v6"
    )
    (folder / "Makefile").write_text((folder / "Makefile").read_text() + "#\n")
    origin = source_trees.locate(local(folder), "x86_64", tmp_path, cache, silent)
    assert origin.package.version == "v6-dirty"
    assert origin.source == f"git tree {folder}"


def test_a_tree_with_a_name_has_the_same_objects_for_all_of_its_commits(
    tmp_path: Path, cache: Cache
) -> None:
    folder = tree_in(tmp_path / "linux")
    makefile = folder / "Makefile"

    def name(version: str) -> str:
        origin = source_trees.locate(local(folder, version), "x86_64", tmp_path, cache, silent)
        return origin.objects_name(tmp_path / "_build").rpartition("-")[0]

    assert (name("6.18"), name("mine")) == ("6.18.0-rc3", "mine")
    makefile.write_text(makefile.read_text().replace("= 18", "= 19"))
    assert (name("6.19"), name("mine")) == ("6.19.0-rc3", "mine")


def test_a_tree_of_another_version(tmp_path: Path, cache: Cache) -> None:
    folder = tree_in(tmp_path / "linux")
    with pytest.raises(UsageError, match=r"is of 6\.18\.0-rc3, not of 6\.1"):
        source_trees.locate(local(folder, "6.1"), "x86_64", tmp_path, cache, silent)


def test_a_tree_that_was_built_in(tmp_path: Path, cache: Cache) -> None:
    folder = tree_in(tmp_path / "linux")
    (folder / ".config").touch()
    with pytest.raises(UsageError, match="was built in") as caught:
        source_trees.locate(local(folder), "x86_64", tmp_path, cache, silent)
    assert "mrproper" in caught.value.advice


def test_no_tree(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(BpfmatrixError, match="is not a source tree of Linux"):
        source_trees.locate(local(tmp_path), "x86_64", tmp_path, cache, silent)
