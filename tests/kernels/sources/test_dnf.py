"""Real dnf, rpm and depmod against a signed repository on loopback, with tiny kernels in it."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, ToolMissingError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.releases import offered
from tests.kernels import synthetic
from tests.kernels.conftest import kernel_parts
from tests.kernels.rpms import Part, RpmRepository, make_rpm_key

pytestmark = pytest.mark.integration

Kernel = Callable[..., KernelConfig]


@pytest.fixture
def dnf_kernel(repository: RpmRepository, rpm_key: Path) -> Kernel:
    def make(id: str = "6.1", **dnf: object) -> KernelConfig:
        asked = {"repository": repository.uri, "key": str(rpm_key), **dnf}
        source = Source.model_validate({"dnf": asked})
        return KernelConfig.model_validate({"id": id, "source": source})

    return make


def rpms_fetched(repository: RpmRepository) -> int:
    return sum(path.endswith(".rpm") for path in repository.web.requests)


def test_a_kernel_is_fetched_once_and_then_needs_no_network(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel
) -> None:
    repository.publish()
    image, was_cached = kernels.provide(dnf_kernel(), cache)
    assert not was_cached
    assert image.description == f"6.1.190 (Example Linux 6.1.190-9.el9, dnf {repository.uri})"
    assert (image.release, image.arch) == ("6.1.190-9.el9.x86_64", "x86_64")
    # What the kernel needs of its own build; not bash, and not what only lies beside it.
    names = [package.name for package in image.provenance.packages]
    assert names == ["kernel-core", "kernel-modules-core"]
    assert image.modules is not None
    assert (image.modules / "kernel/a.ko").read_bytes() == synthetic.module()
    assert (image.modules / "modules.dep").read_text() == "kernel/a.ko:\n"
    assert not (image.modules / "System.map").exists()
    assert image.config is not None
    assert list((cache.root / "tmp").glob("*")) == []
    repository.web.stop()
    assert kernels.provide(dnf_kernel(), cache) == (image, True)


def test_a_series_stays_until_it_is_updated(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel
) -> None:
    repository.publish()
    first, _ = kernels.provide(dnf_kernel(), cache)
    # rpm's order, which is neither that of the names nor that of the numbers.
    for build in ("6.1.190-10.el9", "6.1.190~rc1-11.el9", "6.2.1-1.el9"):
        repository.add(kernel_parts(build), build)
    repository.publish()
    assert kernels.provide(dnf_kernel(), cache) == (first, True)
    second = kernels.update(dnf_kernel(), cache)
    assert second.release == "6.1.190-10.el9.x86_64"
    assert kernels.newest_available(dnf_kernel(), cache) == "6.1.190-10.el9"
    assert kernels.update(dnf_kernel("newest"), cache).release == "6.2.1-1.el9.x86_64"
    fetched = rpms_fetched(repository)
    assert kernels.update(dnf_kernel(), cache) == second
    assert rpms_fetched(repository) == fetched
    old = dnf_kernel(
        "old", package="kernel-core-6.1.190-9.*", extra_packages=["kernel-modules-extra"]
    )
    image, _ = kernels.provide(old, cache)
    assert (image.release, len(image.provenance.packages)) == (first.release, 3)


def test_a_damaged_image_is_fetched_again_as_the_same_release(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel
) -> None:
    repository.publish()
    image, _ = kernels.provide(dnf_kernel(), cache)
    repository.add(kernel_parts("6.1.195-1.el9"), "6.1.195-1.el9")
    repository.publish()
    (image.folder / "vmlinux").write_bytes(b"x")
    again, was_cached = kernels.provide(dnf_kernel(), cache)
    assert (again.release, was_cached) == (image.release, False)
    again.verify()


def test_metadata_that_is_not_signed(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel
) -> None:
    repository.publish(sign=False)
    with pytest.raises(
        KernelUnavailableError, match=r"6\.1: the metadata of .* is not signed"
    ) as e:
        kernels.provide(dnf_kernel(), cache)
    assert "`signed_metadata: false`" in e.value.advice
    image, _ = kernels.provide(dnf_kernel(signed_metadata=False), cache)
    assert image.release == "6.1.190-9.el9.x86_64"


def test_packages_that_are_not_signed(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel
) -> None:
    repository.add(kernel_parts("6.1.191-1.el9"), "6.1.191-1.el9", sign=False)
    repository.publish()
    for signed_metadata in (True, False):
        with pytest.raises(
            KernelUnavailableError, match=r"6\.1: the package kernel-.* is not signed"
        ):
            kernels.provide(dnf_kernel(signed_metadata=signed_metadata), cache)


def test_another_key_is_not_taken(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel, rpm_key: Path
) -> None:
    other = make_rpm_key(rpm_key.parent / "other")
    repository.publish()
    with pytest.raises(KernelUnavailableError, match=r"is signed by no key of .*public\.asc"):
        kernels.provide(dnf_kernel(key=str(other)), cache)
    with pytest.raises(
        KernelUnavailableError, match=r"is not signed, or by no key of .*public\.asc"
    ):
        kernels.provide(dnf_kernel(key=str(other), signed_metadata=False), cache)


def metadata_changed(repository: RpmRepository) -> None:
    repomd = repository.root / "repodata/repomd.xml"
    repomd.write_bytes(repomd.read_bytes().replace(b"<revision>", b"<revision>1"))


def index_changed(repository: RpmRepository) -> None:
    (primary,) = (repository.root / "repodata").glob("*-primary.xml*")
    primary.write_bytes(primary.read_bytes()[:-1] + b"x")


def package_changed(repository: RpmRepository) -> None:
    for rpm in repository.root.glob("*.rpm"):
        rpm.write_bytes(rpm.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (metadata_changed, "is signed by no key of .*, or changed since"),
        (index_changed, "what the mirror sent is not what its metadata says"),
        (package_changed, "what the mirror sent is not what its metadata says"),
    ],
)
def test_nothing_that_was_changed_is_taken(
    cache: Cache,
    repository: RpmRepository,
    dnf_kernel: Kernel,
    tamper: Callable[[RpmRepository], None],
    sentence: str,
) -> None:
    repository.publish()
    tamper(repository)
    with pytest.raises(KernelUnavailableError, match=sentence):
        kernels.provide(dnf_kernel(), cache)
    assert kernels.cached(dnf_kernel(), cache) is None
    assert list((cache.root / "tmp").glob("*")) == []


def test_older_metadata_is_not_taken(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel, tmp_path: Path
) -> None:
    repository.publish()
    shutil.copytree(repository.root / "repodata", tmp_path / "old")
    for path in repository.root.glob("kernel-*"):  # createrepo_c's timestamps have whole seconds
        path.touch()
    repository.add(kernel_parts("6.1.195-1.el9"), "6.1.195-1.el9")
    publish_later(repository)
    assert kernels.provide(dnf_kernel(), cache)[0].version == "6.1.195"
    shutil.rmtree(repository.root / "repodata")
    (tmp_path / "old").rename(repository.root / "repodata")
    with pytest.raises(KernelUnavailableError, match="is older than what it had before"):
        kernels.update(dnf_kernel(), cache)
    assert kernels.provide(dnf_kernel(), cache)[0].version == "6.1.195"


def publish_later(repository: RpmRepository) -> None:
    import re
    import time

    from tests.kernels.archive import gpg

    repository.publish(sign=False)
    repomd = repository.root / "repodata/repomd.xml"
    later = f"<timestamp>{time.time() + 60:.0f}<"
    repomd.write_text(re.sub(r"<timestamp>\d+<", later, repomd.read_text()))
    gpg(repository.key_home, "--detach-sign", "--armor", str(repomd))


def test_what_there_is_not(cache: Cache, repository: RpmRepository, dnf_kernel: Kernel) -> None:
    repository.add({"kernel-empty": Part()}, "6.1.190-7")
    repository.add({"kernel-text": Part({"boot/vmlinuz-1": b"text"})}, "6.1.190-8")
    repository.publish()

    def said(**dnf: object) -> BpfmatrixError:
        with pytest.raises(BpfmatrixError) as raised:
            kernels.provide(dnf_kernel(str(dnf.pop("id", "x")), **dnf), cache)
        return raised.value

    error = said(id="5.14")
    assert error.what == f"5.14: {repository.uri} has no package kernel-core-5.14.*"
    assert error.advice == "It has kernel-core 6.1.190-9.el9."
    assert "kernel-core" in said(package="kernel-cor").advice
    assert (
        "has no kernel-modules-exta of the build"
        in said(extra_packages=["kernel-modules-exta"]).what
    )
    assert "matches several packages" in said(package="kernel-*").what
    assert (
        "kernel-empty-6.1.190-7.x86_64.rpm: there is no kernel in it"
        in said(package="kernel-empty").what
    )
    assert "the kernel of kernel-text is not a kernel" in said(package="kernel-text").what
    assert "there is no repository at" in said(repository=f"{repository.uri}nowhere").what
    assert "no such file" in said(key="/nowhere/key.asc").what
    repository.web.status = 503
    assert "can't be reached and no kernel" in said(id="other", extra_packages=["x"]).what
    repository.web.stop()
    error = said()
    assert (
        error.what
        == f"x: {repository.uri} can't be reached and no kernel of this series is cached."
    )


def test_a_key_by_its_address_is_fetched_once(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel, rpm_key: Path
) -> None:
    shutil.copyfile(rpm_key, repository.root / "KEY")
    repository.publish()
    kernel = dnf_kernel(key=f"{repository.uri}KEY")
    kernels.provide(kernel, cache)
    (repository.root / "KEY").write_text("another one")
    kernels.update(kernel, cache)
    assert repository.web.requests.count("/KEY") == 1
    (repository.root / "PAGE").write_text("<html>")
    with pytest.raises(KernelUnavailableError, match="/PAGE has no key that rpm can read"):
        kernels.provide(dnf_kernel("x", key=f"{repository.uri}PAGE"), cache)
    with pytest.raises(KernelUnavailableError, match="/NONE answers HTTP 404"):
        kernels.provide(dnf_kernel("x", key=f"{repository.uri}NONE"), cache)


def test_a_repository_that_is_a_folder(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel
) -> None:
    repository.publish()
    kernel = dnf_kernel(repository=f"file://{repository.root}")
    assert kernels.provide(kernel, cache)[0].version == "6.1.190"


def test_a_mirrorlist(cache: Cache, repository: RpmRepository, dnf_kernel: Kernel) -> None:
    repository.publish()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        (repository.root / "mirrors").write_text(f"{dead}\n{repository.uri}\n")
        kernel = dnf_kernel(repository=f"{repository.uri}mirrors", mirrorlist=True)
        assert kernels.provide(kernel, cache)[0].version == "6.1.190"


def test_another_architecture(cache: Cache, repository: RpmRepository, dnf_kernel: Kernel) -> None:
    repository.add(kernel_parts("6.1.190-8.el9", "aarch64"), "6.1.190-8.el9", arch="aarch64")
    repository.publish()
    kernel = dnf_kernel().model_copy(update={"arch": "aarch64"})
    image, _ = kernels.provide(kernel, cache)
    assert (image.arch, image.release) == ("aarch64", "6.1.190-8.el9.aarch64")
    assert kernels.provide(dnf_kernel(), cache)[0].release == "6.1.190-9.el9.x86_64"


def test_a_host_without_dnf(
    cache: Cache, dnf_kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match=r"6\.1: dnf is not installed") as raised:
        kernels.provide(dnf_kernel(), cache)
    assert "dnf-plugins-core" in raised.value.advice


def test_every_build_of_a_repository_is_a_release(
    cache: Cache, repository: RpmRepository, dnf_kernel: Kernel, tmp_path: Path
) -> None:
    for build in ("6.1.190-10.el9", "6.2.1-1.el9"):
        repository.add(kernel_parts(build), build)
    repository.publish()
    declared = dnf_kernel().source.model_dump(exclude_unset=True)
    config = Config.model_validate({"kernels": {"6.1": {"source": declared}}}).at(tmp_path)
    found = offered(config, cache)
    assert found.problems == ()
    in_order = sorted(found.places, key=found.places.__getitem__)
    assert in_order == ["6.1.190-9.el9", "6.1.190-10.el9", "6.1", "6.2.1-1.el9"]
    image, _ = kernels.provide(found.config.kernel("6.1.190-9.el9"), cache)
    assert image.release == "6.1.190-9.el9.x86_64"
