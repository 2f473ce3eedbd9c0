"""The releases that the tags of a repository name, in a real registry on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.models import Config
from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.releases import offered
from bpfmatrix.oci import registry as client
from bpfmatrix.oci.reference import Reference
from tests.kernels import synthetic
from tests.oci.registry import Registry, layer

pytestmark = pytest.mark.integration

TAGS = ("5.4", "5.4.276", "6.1.9", "6.1.10", "6.12.16-rt", "stable")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as running:
        for tag in TAGS:
            kernel = synthetic.bzimage(release=f"{tag}.1" if tag == "5.4" else tag)
            running.image("team/kernels", tag, [layer([("boot/vmlinuz", kernel)])])
        yield running


def test_each_tag_that_names_a_release_is_one(
    registry: Registry, cache: Cache, tmp_path: Path
) -> None:
    image = f"{registry.host}/team/kernels:5.4.276"
    config = Config.model_validate({"kernels": {"5.4.276": {"source": {"oci": image}}}})
    found = offered(config.at(tmp_path), cache)
    assert found.problems == ()
    assert sorted(found.places) == ["5.4", "5.4.276", "6.1.10", "6.1.9"]
    fetched, _ = kernels.provide(found.config.kernel("6.1.9"), cache)
    assert fetched.version == "6.1.9"
    # A tag with more in it stands for others of its kind.
    realtime = {"6.12-rt": {"source": {"oci": f"{registry.host}/team/kernels:6.1.1-rt"}}}
    found = offered(Config.model_validate({"kernels": realtime}).at(tmp_path), cache)
    assert sorted(found.places) == ["6.12-rt", "6.12.16"]
    registry.stop()
    found = offered(config.at(tmp_path), cache)
    assert found.problems == (f"{registry.host} can't be reached",)
    assert "6.1.9" not in found.places


def test_the_registry_of_pushed_kernels_is_a_source_too(
    registry: Registry, cache: Cache, tmp_path: Path
) -> None:
    entry = {"source": {"directory": "images"}}
    (tmp_path / "images").mkdir()
    repository = f"oci://{registry.host}/team/kernels"
    config = Config.model_validate({"registry": repository, "kernels": {"6.6": entry}})
    found = offered(config.at(tmp_path), cache)
    assert found.problems == ()
    assert sorted(found.places) == ["5.4", "5.4.276", "6.1.10", "6.1.9", "6.6"]
    fetched, _ = kernels.provide(found.config.kernel("6.1.10"), cache)
    assert fetched.version == "6.1.10"
    # For each architecture that is declared, and not only for that of `defaults`.
    entries = {"6.6": {**entry, "arch": "aarch64"}, "6.7": entry}
    config = Config.model_validate({"registry": repository, "kernels": entries})
    found = offered(config.at(tmp_path), cache)
    assert {"6.1.10", "6.1.10-arm64"} <= found.places.keys()
    assert found.config.kernel("6.1.10-arm64").arch == "aarch64"


def test_all_pages_of_tags_are_read(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_TAGS_OF_A_PAGE", 2)
    tags = client.RegistryClient(Reference.parse(f"{registry.host}/team/kernels")).tags()
    assert sorted(tags) == sorted(TAGS)
    with pytest.raises(KernelUnavailableError, match=r"has no team/nothing"):
        client.RegistryClient(Reference.parse(f"{registry.host}/team/nothing")).tags()
