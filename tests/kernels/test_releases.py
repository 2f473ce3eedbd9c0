"""Every release that folders and builds offer; registries, dnf and apt have tests of their own."""

from pathlib import Path
from typing import Any

import pytest

from bpfmatrix import kernels
from bpfmatrix.config import kernels_lock
from bpfmatrix.config.kernels_lock import Package, Pin
from bpfmatrix.config.models import Config
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.releases import Releases, offered
from tests.kernels import synthetic
from tests.kernels.image_folders import put


def declared(root: Path, sources: dict[str, Any]) -> Config:
    entries = {id: {"source": source} for id, source in sources.items()}
    return Config.model_validate({"kernels": entries}).at(root)


def in_order(found: Releases) -> list[str]:
    return sorted(found.places, key=found.places.__getitem__)


def test_each_kernel_of_a_folder_is_a_release(tmp_path: Path, cache: Cache) -> None:
    folder = tmp_path / "images"
    put(folder / "6.1.9/vmlinuz", "6.1.9")
    put(folder / "vmlinuz-6.1.10-generic", "6.1.10-generic")
    put(folder / "linux-6.12.bz", "6.12.3")
    put(folder / "vmlinuz-6.2.0", "", b"no kernel")
    put(folder / "notes/vmlinuz", "5.4.1")
    config = declared(tmp_path, {"6.1": {"directory": "images"}})
    found = offered(config, cache)
    assert in_order(found) == ["6.1.9", "6.1.10", "6.1", "6.12.3"]
    image, _ = kernels.provide(found.config.kernel("6.1.9"), cache)
    assert image.release == "6.1.9"
    # What 6.1 means is known once it is in the cache.
    kernels.provide(found.config.kernel("6.1"), cache)
    assert offered(config, cache).places["6.1"] == (6, 1, 10)


def test_each_file_of_a_folder_is_read_once_and_one_that_can_not_be_is_a_problem(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    good = put(folder / "vmlinuz-6.1.9", "6.1.9")
    other = folder / "vmlinuz-6.2.1"
    other.write_bytes(synthetic.arm64_image(release="6.2.1"))
    broken = folder / "vmlinuz-6.12.3"
    broken.symlink_to("/proc/self/mem")  # which gives an error to whoever reads it
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def reading(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    source = {"directory": "images"}
    config = Config.model_validate(
        {"kernels": {"a": {"source": source}, "b": {"source": source, "arch": "aarch64"}}}
    ).at(tmp_path)
    found = offered(config, cache)
    assert in_order(found) == ["6.1.9", "6.2.1-arm64"]
    assert found.problems == (f"{broken} can't be read (Input/output error)",)
    assert sorted(path for path in read if path.parent == folder) == [good, broken, other]


def test_built_and_placed_kernels_are_releases_too(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "ci-kernels/5.4.286/vmlinuz", "5.4.286")
    put(tmp_path / "ci-kernels/bisect-1234/vmlinuz", "6.2.0-rc1")
    put(tmp_path / "elsewhere/vmlinuz-5.15.7", "5.15.7")
    config = declared(tmp_path, {"6.1": {"oci": "127.0.0.1:9/k:1"}})
    assert "5.4.286" in offered(config, cache).places
    monkeypatch.setenv("KERN_DIR", str(tmp_path / "elsewhere"))
    assert in_order(offered(config, cache)) == ["5.4.286", "5.15.7", "6.1"]


def test_a_source_that_can_not_be_read_is_a_problem_and_the_others_are_read(
    tmp_path: Path, cache: Cache
) -> None:
    put(tmp_path / "images/6.6.1/vmlinuz", "6.6.1")
    config = declared(
        tmp_path, {"6.1": {"oci": "127.0.0.1:9/k:6.1"}, "6.6": {"directory": "images"}}
    )
    found = offered(config, cache)
    assert found.problems == ("127.0.0.1:9 can't be reached",)
    assert in_order(found) == ["6.1", "6.6.1", "6.6"]


def test_a_pinned_kernel_has_the_place_of_its_release(tmp_path: Path, cache: Cache) -> None:
    name = "127.0.0.1:9/k:6.1"
    config = declared(tmp_path, {"6.1": {"oci": name}})
    pin = Pin(
        *("x86_64", {"oci": name}, "6.1.190", "6.1.190-x", f"sha256:{'0' * 64}"),
        *(f"sha256:{'1' * 64}", f"oci {name}", "", (Package(name, "6.1", "2" * 64),)),
    )
    kernels_lock.write(tmp_path, {"6.1": pin})
    assert offered(config, cache).places["6.1"] == (6, 1, 190)


def test_what_would_have_to_be_built_is_left_out_unless_it_is_asked_for(
    tmp_path: Path, cache: Cache
) -> None:
    sums = tmp_path / "mirror/v5.x/sha256sums.asc"
    sums.parent.mkdir(parents=True)
    lines = (f"{number:064x}  linux-{name}.tar.xz\n" for number, name in enumerate(RELEASES))
    sums.write_text("".join(lines))
    source = {"build": {"version": "5.4.276", "url": (tmp_path / "mirror").as_uri()}}
    config = declared(tmp_path, {"5.4.276": source, "6.1": {"oci": "127.0.0.1:9/k:1"}})
    found = offered(config, cache)
    assert in_order(found) == ["6.1"]
    assert found.unbuilt == {"5.4.276"}
    found = offered(config, cache, build=True)
    assert in_order(found) == ["5.4.0", "5.4.275", "5.4.276", "5.15.9", "6.1"]
    assert found.unbuilt == {"5.4.0", "5.4.275", "5.4.276", "5.15.9"}
    other = found.config.kernel("5.4.275").source.build
    assert other is not None
    assert (other.version, other.url) == ("5.4.275", source["build"]["url"])


RELEASES = ("5.4", "5.4.275", "5.4.276", "5.15.9")
