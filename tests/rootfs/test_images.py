"""Root file systems from images: of a real registry on loopback, and of OCI layouts."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, UnreachableError, UsageError
from bpfmatrix.host import download
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.rootfs.images import RootImage, obtain, update
from bpfmatrix.rootfs.spec import parse
from tests.damage import flip_bit_quietly
from tests.oci.registry import Descriptor, Registry, layer
from tests.rootfs.layouts import Layout

ONE, TWO = layer([("etc/one", b"1")]), layer([("etc/two", b"2"), ("etc/.wh.one", b"")])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr(download, "_BACKOFF_SECONDS", 0.01)
    with Registry(tmp_path / "registry") as running:
        yield running


class Heard(list[str]):
    """A progress that keeps what it was told, except for fractions."""

    def __call__(self, text: str, fraction: float | None = None) -> None:
        if text not in self:
            self.append(text)

    def note(self, text: str) -> None:
        self.append(f"note: {text}")


def root_of(
    text: object, cache: Cache, progress: Progress = silent, arch: str = "x86_64"
) -> RootImage:
    return obtain(parse(str(text), "--rootfs"), arch, cache, progress)


def content(root: RootImage, path: str) -> str:
    command = ["/sbin/debugfs", "-R", f"cat {path}", str(root.path)]
    return subprocess.check_output(command, text=True)


def nothing_is_stored(cache: Cache) -> bool:
    return not list(cache.root.glob("rootfs/*.ext4")) and not list(cache.root.glob("tmp/*"))


@pytest.mark.integration
def test_an_image_of_a_registry(registry: Registry, cache: Cache) -> None:
    amd64 = registry.image("own/root", "", [ONE, TWO])
    arm64 = registry.image("own/root", "", [ONE], arch="arm64")
    registry.index("own/root", "12", [arm64, amd64])
    name = f"oci:{registry.host}/own/root:12"
    heard = Heard()
    root = root_of(name, cache, heard)
    assert root.digest == amd64.digest
    assert str(root) == f"{registry.host}/own/root:12@{amd64.digest[:19]}"
    assert (root.has("/etc/one"), root.has("/etc/two")) == (False, True)
    assert content(root, "/etc/two") == "2"
    plain = f"{registry.host}/own/root:12"
    assert [text.removeprefix(f"{plain}: ") for text in heard] == [
        f"asking {registry.host}",
        "fetching 0 MB",
        "unpacking",
        "making its disk",
    ]
    other = root_of(name, cache, arch="aarch64")
    assert other.digest == arm64.digest
    assert content(other, "/etc/one") == "1"
    assert root.path.stat().st_size == other.path.stat().st_size
    # From here on, no network is needed.
    registry.stop()
    heard = Heard()
    assert root_of(name, cache, heard) == root
    assert heard == []
    error = refused(f"oci:{registry.host}/own/root:13", cache, UnreachableError)
    assert error.what == (
        f"the image {registry.host}/own/root:13 is not in the cache, and {registry.host} can't be "
        "reached"
    )
    assert "Try again with a network" in error.advice


def refused(
    text: object, cache: Cache, kind: type[BpfmatrixError] = BpfmatrixError, **more: str
) -> BpfmatrixError:
    with pytest.raises(kind) as raised:
        obtain(parse(str(text), "--rootfs"), more.get("arch", "x86_64"), cache)
    return raised.value


@pytest.mark.integration
def test_a_tag_stays_until_it_is_updated(registry: Registry, cache: Cache) -> None:
    first = registry.image("root", "12", [ONE])
    name = f"oci:{registry.host}/root:12"
    spec = parse(name, "--rootfs")
    assert root_of(name, cache).digest == first.digest
    second = registry.image("root", "12", [ONE, TWO])
    assert root_of(name, cache).digest == first.digest
    # A damaged image is fetched again by its digest, and not by its tag.
    flip_bit_quietly(root_of(name, cache).path)
    heard = Heard()
    again = root_of(name, cache, heard)
    assert again.digest == first.digest
    assert content(again, "/etc/one") == "1"
    assert any("making it again" in text for text in heard)
    made, is_new = update(spec, "x86_64", cache)
    assert (made.digest, is_new) == (second.digest, True)
    assert root_of(name, cache).digest == second.digest
    assert update(spec, "x86_64", cache)[1] is False
    registry.stop()
    with pytest.raises(UnreachableError):
        update(spec, "x86_64", cache)
    assert root_of(name, cache).digest == second.digest


@pytest.mark.integration
def test_an_image_that_its_registry_has_no_more(registry: Registry, cache: Cache) -> None:
    first = registry.image("root", "12", [ONE])
    name = f"oci:{registry.host}/root:12"
    stored = root_of(name, cache)
    second = registry.image("root", "12", [TWO])
    # As a registry's clean-up does, which removes manifests without a tag.
    registry.stop()
    repositories = registry.root / "storage/docker/registry/v2/repositories"
    links = repositories / "root" / "_manifests/revisions"
    (links / "sha256" / first.digest.removeprefix("sha256:") / "link").unlink()
    registry.start()
    stored.path.unlink()
    heard = Heard()
    assert root_of(name, cache, heard).digest == second.digest
    gone = f"{registry.host}/root:12 has {first.digest[:19]} no more; its present image is taken"
    assert f"note: {gone}" in heard
    assert refused(f"oci:{registry.host}/root@{first.digest}", cache).what.endswith(
        f"has no root@{first.digest}"
    )


@pytest.mark.integration
def test_a_pinned_image(registry: Registry, cache: Cache) -> None:
    image = registry.image("root", "12", [ONE])
    index = registry.index("root", "index", [image])
    for digest in (image.digest, index.digest):
        root = root_of(f"oci:{registry.host}/root@{digest}", cache)
        assert root.digest == image.digest
    # One file of the cache for both.
    assert len(list(cache.root.glob("rootfs/*.ext4"))) == 1
    registry.stored(ONE.digest).write_bytes(TWO.data)
    (cache.root / "rootfs" / root.path.name).unlink()
    error = refused(f"oci:{registry.host}/root@{image.digest}", cache)
    assert "does not have its digest" in error.what
    assert nothing_is_stored(cache)


def test_a_layout(layout: Layout, cache: Cache) -> None:
    env = ["PATH=/opt/bin:/bin", "EMPTY=", "broken", "=x", "A=b=c", "NUL=\0"]
    made = layout.image("12", [ONE, TWO], env=env)
    heard = Heard()
    root = root_of(layout.folder, cache, heard)
    assert root.digest == made.digest
    assert root.env == {"PATH": "/opt/bin:/bin", "EMPTY": "", "A": "b=c"}
    assert content(root, "/etc/two") == "2"
    assert [text.removeprefix(f"{layout.folder}: ") for text in heard] == [
        "fetching 0 MB",
        "unpacking",
        "making its disk",
    ]
    before = root.path.stat()
    assert root_of(f"{layout.folder}:12", cache).path == root.path
    assert root.path.stat().st_mtime_ns == before.st_mtime_ns
    assert root_of(f"{layout.folder}@{made.digest}", cache).digest == made.digest
    # A layout is no pinned name: the next run has what is in the folder then.
    changed = Layout(layout.folder.with_name("other"))
    new = changed.image("12", [ONE])
    layout.folder.rename(layout.folder.with_name("old"))
    changed.folder.rename(layout.folder)
    assert root_of(layout.folder, cache).digest == new.digest


def test_which_image_of_a_layout(layout: Layout, cache: Cache) -> None:
    one, two = layout.image("one", [ONE]), layout.image("two", [TWO])
    nested = [layout.image("", [ONE, TWO]), layout.image("", [ONE, TWO], arch="arm64")]
    layout.index("both", nested)
    layout.name("", layout.image("", [TWO, ONE]), **{"io.containerd.image.name": "x/y:1"})
    assert root_of(f"{layout.folder}:one", cache).digest == one.digest
    assert root_of(f"{layout.folder}:two", cache).digest == two.digest
    assert root_of(f"{layout.folder}:both", cache).digest == nested[0].digest
    assert root_of(f"{layout.folder}:both", cache, arch="aarch64").digest == nested[1].digest
    error = refused(layout.folder, cache, UsageError)
    assert error.what == f"{layout.folder} has several images: both, one, two, x/y:1"
    error = refused(f"{layout.folder}:three", cache, UsageError)
    assert error.what == f"{layout.folder} has no image three"
    assert error.advice == "It has: both, one, two, x/y:1."
    error = refused(f"{layout.folder}:one", cache, arch="aarch64")
    assert error.what == f"{layout.folder}:one is not for linux/arm64"


def test_two_architectures_in_the_index_of_a_layout(layout: Layout, cache: Cache) -> None:
    images = {arch: layout.image("root", [ONE], arch) for arch in ("amd64", "arm64")}
    assert root_of(f"{layout.folder}:root", cache).digest == images["amd64"].digest
    found = root_of(layout.folder, cache, arch="aarch64")
    assert found.digest == images["arm64"].digest


def test_a_damaged_layout(layout: Layout, cache: Cache) -> None:
    bare = refused(layout.folder, cache)
    assert bare.what == (
        f"{layout.folder}: the image's index.json can't be read (No such file or directory)"
    )
    made = layout.image("12", [ONE])
    flip_bit_quietly(layout.blob_of(ONE))
    error = refused(layout.folder, cache)
    assert error.what.endswith("does not have its digest")
    layout.blob_of(ONE).unlink()
    assert "can't be read (No such file" in refused(layout.folder, cache).what
    layout.blob_of(made).write_bytes(b"{}")
    assert "does not have its digest" in refused(layout.folder, cache).what
    (layout.folder / "index.json").write_text("[]")
    assert "can't be read" in refused(layout.folder, cache).what
    (layout.folder / "index.json").write_text('{"schemaVersion": 2, "manifests": [7]}')
    assert "can't be read" in refused(layout.folder, cache).what
    assert nothing_is_stored(cache)


def test_an_image_without_layers(layout: Layout, cache: Cache) -> None:
    layout.image("12", [])
    assert not root_of(layout.folder, cache).has("/etc")


def test_a_layer_that_ends_early(layout: Layout, cache: Cache) -> None:
    layout.image("12", [Descriptor(ONE.media_type, ONE.data[: len(ONE.data) // 2])])
    assert "layer 1 of 1 can't be unpacked" in refused(layout.folder, cache).what
    assert nothing_is_stored(cache)
