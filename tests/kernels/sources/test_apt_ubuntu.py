"""The apt source with a mirror and keyring of its own: an archive laid out as Ubuntu's."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from bpfmatrix import kernels
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels import series
from tests.kernels import synthetic
from tests.kernels.archive import Archive, make_key
from tests.kernels.conftest import use_host_settings

pytestmark = pytest.mark.integration

Kernel = Callable[..., KernelConfig]


@pytest.fixture(params=["apt", "without apt"])
def ubuntu(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    keyring: Path,
    path_without_apt: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Archive]:
    """An archive of another distribution, while the host's own apt, if any, knows no mirror."""
    served = Archive(tmp_path / "ubuntu", keyring.parent, "noble-updates", "Ubuntu", "restricted")
    with served as archive:
        add_generic(archive, "6.8.0-45")
        add_generic(archive, "6.11.0-9")
        archive.publish()
        use_host_settings(tmp_path, monkeypatch, "# nothing\n")
        if request.param == "without apt":
            monkeypatch.setenv("PATH", path_without_apt)
        yield archive


def add_generic(archive: Archive, abi: str) -> None:
    """Ubuntu's packages of a kernel: the image, its modules, and what must not be taken."""
    release = f"{abi}-generic"
    version = f"{abi}.{abi.rpartition('-')[2]}"
    module = zstandard.ZstdCompressor().compress(synthetic.module())
    image = {f"boot/vmlinuz-{release}": synthetic.bzimage(release=release)}
    needs = f"kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-{release}"
    archive.add(f"linux-image-{release}", version, image, depends=needs)
    archive.add(f"linux-image-unsigned-{release}", f"{version}+later", image, depends=needs)
    folder = f"lib/modules/{release}"
    modules = {f"{folder}/kernel/a.ko.zst": module, f"boot/config-{release}": b"CONFIG_BPF=y\n"}
    modules[f"{folder}/modules.order"] = b"kernel/a.ko\n"
    archive.add(f"linux-modules-{release}", version, modules)


@pytest.fixture
def ubuntu_kernel(ubuntu: Archive, keyring: Path, tmp_path: Path) -> Kernel:
    shutil.copyfile(keyring, tmp_path / "ubuntu.gpg")

    def make(package: str = "linux-image-6.8.*-generic", **apt: object) -> KernelConfig:
        own = {"mirror": ubuntu.uri, "keyring": "ubuntu.gpg", "components": ["restricted"]}
        asked = {"suite": ubuntu.suite, "package": package, **own, **apt}
        source = Source.model_validate({"apt": asked})
        # The keyring is relative to the folder of kernels.yaml.
        return KernelConfig.model_validate({"id": "noble", "source": source, "root": tmp_path})

    return make


def test_another_distributions_kernel(cache: Cache, ubuntu: Archive, ubuntu_kernel: Kernel) -> None:
    image, was_cached = kernels.provide(ubuntu_kernel(), cache)
    assert not was_cached
    assert image.description == "6.8.0 (Ubuntu 6.8.0-45.45, apt noble-updates)"
    assert image.release == "6.8.0-45-generic"
    names = [package.name for package in image.provenance.packages]
    assert names == ["linux-image-6.8.0-45-generic", "linux-modules-6.8.0-45-generic"]
    assert image.read_modules(["kernel/a.ko"]) == {"kernel/a.ko": synthetic.module()}
    assert kernels.newest_available(ubuntu_kernel(), cache) == "6.8.0-45.45"
    ubuntu.stop()
    assert kernels.provide(ubuntu_kernel(), cache) == (image, True)


def test_a_pattern_takes_the_newest(cache: Cache, ubuntu_kernel: Kernel) -> None:
    image, _ = kernels.provide(ubuntu_kernel("linux-image-*-generic"), cache)
    assert image.release == "6.11.0-9-generic"


def test_an_archive_that_is_not_to_be_trusted(
    cache: Cache, ubuntu: Archive, ubuntu_kernel: Kernel, keyring: Path, tmp_path: Path
) -> None:
    def said(**apt: object) -> BpfmatrixError:
        with pytest.raises(KernelUnavailableError) as raised:
            kernels.provide(ubuntu_kernel(**apt), cache)
        return raised.value

    other = make_key(keyring.parent / "ubuntus-other")
    assert f"is by no key of {other}" in said(keyring=str(other)).what
    assert said(keyring="none.gpg").what == f"noble: {tmp_path}/none.gpg: no such file"
    assert "has no suite jammy" in said(suite="jammy").what
    assert (
        "has no package linux-image-5.4.*-generic" in said(package="linux-image-5.4.*-generic").what
    )
    ubuntu.publish(sign=False)
    assert "the archive's signature is missing" in said().what
    ubuntu.publish(valid_seconds=-60)
    error = said()
    assert error.what == (
        "noble: noble-updates: the archive's index is out of date, or this host's clock is wrong"
    )
    assert "is expired" in error.advice
    assert kernels.cached(ubuntu_kernel(), cache) is None
    ubuntu.stop()
    assert "can't be reached" in said().what


def test_every_series_of_a_mirror_is_available(
    cache: Cache, ubuntu: Archive, ubuntu_kernel: Kernel
) -> None:
    source = ubuntu_kernel().source
    declared = {"noble": {"source": source.model_dump(exclude_unset=True)}}
    config = Config.model_validate({"kernels": declared})
    config._root = ubuntu_kernel().root
    found = series.available(config, cache)
    assert found.ids == ("6.8", "6.11")
    image, _ = kernels.provide(found.config.kernel("6.11"), cache)
    assert image.release == "6.11.0-9-generic"
