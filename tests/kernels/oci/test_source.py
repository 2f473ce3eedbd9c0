"""A real registry on loopback, with images made out of a real kernel, and its faults."""

import gzip
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels import KernelImage
from bpfmatrix.oci.reference import Reference
from tests.cutting_proxy import CuttingProxy
from tests.kernels import synthetic
from tests.kernels.conftest import apt_kernel
from tests.oci.registry import (
    DOCKER,
    OCI,
    PASSWORD,
    USER,
    Descriptor,
    Entry,
    Registry,
    TokenServer,
    layer,
    login_file,
    tree,
)
from tests.tool import ToolProject, by_name

pytestmark = pytest.mark.integration

TINY: list[Entry] = [("boot/vmlinuz", synthetic.bzimage())]


@pytest.fixture(scope="session")
def real() -> KernelImage:
    """Debian's 6.1, from the user's own cache."""
    return kernels.provide(apt_kernel("6.1", "bookworm-security"), Cache.default())[0]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_logins_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    cache = Cache.default().root
    monkeypatch.setenv("BPFMATRIX_CACHE", str(cache))
    monkeypatch.setenv("HOME", str(home))


def oci_kernel(image: str, id: str = "6.1", arch: str = "x86_64") -> KernelConfig:
    return KernelConfig.model_validate({"id": id, "arch": arch, "source": Source(oci=image)})


def modules_of(image: KernelImage, part: str) -> list[Entry]:
    """Return some of a kernel's modules, as entries below lib/modules."""
    assert image.modules is not None
    return tree(image.modules / part, f"lib/modules/{image.release}/{part}/")


def nothing_is_stored(cache: Cache) -> bool:
    return not list(cache.root.glob("kernels/*/*")) and not list(cache.root.glob("tmp/*"))


def refused(image: str, cache: Cache, **more: str) -> BpfmatrixError:
    """Return why a kernel can't be had; nothing of it is stored."""
    with pytest.raises(BpfmatrixError) as raised:
        kernels.provide(oci_kernel(image, **more), cache)
    assert nothing_is_stored(cache)
    return raised.value


@pytest.mark.parametrize("packed", ["gzip", "zstd", "plain"])
def test_an_index_of_two_architectures(
    registry: Registry, cache: Cache, real: KernelImage, packed: str
) -> None:
    kernel = layer([("boot/vmlinuz", real.vmlinuz.read_bytes())], packed)
    modules = layer(modules_of(real, "kernel/drivers/virtio"), packed)
    arm = layer([("boot/vmlinuz", gzip.compress(synthetic.arm64_image()))], packed)
    amd64 = registry.image("cilium/ci-kernels", "", [kernel, modules])
    arm64 = registry.image("cilium/ci-kernels", "", [arm], arch="arm64")
    attestation = registry.image("cilium/ci-kernels", "", [], arch="unknown")
    attestation.platform = {"os": "unknown", "architecture": "unknown"}
    registry.index("cilium/ci-kernels", "6.1", [attestation, arm64, amd64])
    name = f"{registry.host}/cilium/ci-kernels:6.1"
    heard: list[float] = []

    def hear(text: str, fraction: float | None = None) -> None:
        heard.extend([fraction] if fraction is not None else [])

    image, cached = kernels.provide(oci_kernel(name), cache, hear)
    assert not cached
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    image.verify()
    assert (image.release, image.version, image.pvh) == (real.release, real.version, True)
    assert image.vmlinuz.read_bytes() == real.vmlinuz.read_bytes()
    assert image.modules is not None
    assert (image.modules / "kernel/drivers/virtio/virtio.ko").exists()
    assert "virtio_ring.ko" in (image.modules / "modules.dep").read_text()
    (package,) = image.provenance.packages
    assert f"sha256:{package.sha256}" == amd64.digest
    assert (package.name, package.version) == (f"{registry.host}/cilium/ci-kernels", "6.1")
    assert image.description == f"{real.version} (oci {name}@{amd64.digest[:19]})"
    other, _ = kernels.provide(oci_kernel(name, arch="aarch64"), cache)
    assert (other.arch, other.release) == ("aarch64", "6.1.0-9-cloud-arm64")
    registry.stop()
    assert kernels.provide(oci_kernel(name), cache) == (image, True)
    with pytest.raises(UnreachableError, match=rf"the cached {real.version} stays in use"):
        kernels.update(oci_kernel(name), cache)


def test_a_little_vm_helper_image(registry: Registry, cache: Cache, real: KernelImage) -> None:
    base = "data/kernels/6.1-main"
    entries: list[Entry] = [
        (f"{base}/boot/vmlinuz-{real.release}", real.vmlinuz.read_bytes()),
        (f"{base}/boot/config-{real.release}", b"CONFIG_BPF=y\n"),
        (f"{base}/boot/System.map-{real.release}", b"0 a"),
        *((f"{base}/{name}", data) for name, data in modules_of(real, "kernel/fs/fuse")),  # type: ignore[misc]
    ]
    registry.image("lvh-images/kernel-images", "6.1-main", [layer(entries)], docker=True)
    name = f"{registry.host}/lvh-images/kernel-images:6.1-main"
    image, _ = kernels.provide(oci_kernel(name), cache)
    assert image.config is not None
    assert image.config.read_text() == "CONFIG_BPF=y\n"
    assert image.modules is not None
    assert (image.modules / "kernel/fs/fuse/fuse.ko").exists()
    assert not list(image.folder.rglob("System.map*"))


def test_a_bare_vmlinux(registry: Registry, cache: Cache, real: KernelImage) -> None:
    assert real.pvh
    vmlinux = real.boot.read_bytes()
    registry.image("k", "1", [layer([("boot/vmlinux", vmlinux)])])
    image, _ = kernels.provide(oci_kernel(f"{registry.host}/k:1"), cache)
    assert (image.release, image.version, image.pvh) == (real.release, real.version, True)
    assert image.boot == image.vmlinuz  # it is stored once
    without = synthetic.vmlinux(pvh=False, text=b"Linux version 6.1.0 (a@b) #1\n")
    registry.image("k", "2", [layer([("boot/vmlinux", without)])])
    error = refused(f"{registry.host}/k:2", Cache(cache.root / "other"))
    assert "boot/vmlinux of" in error.what
    assert "has no PVH entry" in error.what


def test_a_tag_moves_only_with_update(registry: Registry, cache: Cache) -> None:
    registry.image("k", "6.1", [layer(TINY)])
    kernel = oci_kernel(f"{registry.host}/k:6.1")
    first, _ = kernels.provide(kernel, cache)
    newer = layer([("boot/vmlinuz", synthetic.bzimage(release="6.1.200"))])
    moved = registry.image("k", "6.1", [newer])
    assert kernels.provide(kernel, cache) == (first, True)
    # A damaged image is fetched again as it was, although the tag has moved.
    os.truncate(first.boot, 7)
    again, cached = kernels.provide(kernel, cache)
    assert not cached
    assert (again.release, again.provenance) == (first.release, first.provenance)
    second = kernels.update(kernel, cache)
    assert second.version == "6.1.200"
    assert f"sha256:{second.provenance.packages[0].sha256}" == moved.digest
    pinned = oci_kernel(f"{registry.host}/k@sha256:{first.provenance.packages[0].sha256}")
    assert kernels.provide(pinned, cache)[0].release == first.release


def test_a_pin_holds(registry: Registry, cache: Cache) -> None:
    made = registry.image("k", "6.1", [layer(TINY)])
    digest = f"sha256:{'0' * 64}"
    error = refused(f"{registry.host}/k:6.1@{digest}", cache)
    assert f"has no k:6.1@{digest}" in error.what
    image, _ = kernels.provide(oci_kernel(f"{registry.host}/k:6.1@{made.digest}"), cache)
    assert image.release == synthetic.RELEASE


def test_what_the_registry_does_not_have(registry: Registry, cache: Cache) -> None:
    registry.image("k", "6.1", [layer(TINY)])
    for name in ("k:6.2", "other:6.1"):
        error = refused(f"{registry.host}/{name}", cache)
        assert error.what == f"6.1: {registry.host} has no {name}"
    with pytest.raises(KernelUnavailableError):
        kernels.update(oci_kernel(f"{registry.host}/k:6.2"), cache)
    error = refused(f"{registry.host}/k:6.1", cache, arch="aarch64")
    assert "is not for linux/arm64" in error.what
    assert error.advice == "It is for linux/amd64: set `arch` in kernels.yaml."
    only = registry.image("k", "", [layer(TINY)])
    registry.index("k", "index", [only])
    error = refused(f"{registry.host}/k:index", cache, arch="aarch64")
    assert "is not for linux/arm64" in error.what


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([("etc/hostname", b"x")], "there is no kernel in the image"),
        ([("boot/vmlinuz", b"text")], "boot/vmlinuz of .* is not a kernel: it does not begin like"),
        ([("boot/vmlinuz", synthetic.arm64_image())], "is for aarch64, not for x86_64"),
        ([("boot/vmlinuz", synthetic.bzimage()[:1100])], "is shorter than its header says"),
        ([("../vmlinuz", b"x")], r"the image is refused: its entry \.\./vmlinuz leads out"),
    ],
)
def test_images_without_a_kernel(
    registry: Registry, cache: Cache, entries: list[Entry], sentence: str
) -> None:
    registry.image("k", "1", [layer(entries)])
    with pytest.raises(BpfmatrixError, match=f"^6.1: .*{sentence}"):
        kernels.provide(oci_kernel(f"{registry.host}/k:1"), cache)
    assert nothing_is_stored(cache)


def test_unknown_media_types(registry: Registry, cache: Cache) -> None:
    odd = Descriptor("application/vnd.example.disk", b"x")
    registry.image("k", "1", [odd])
    error = refused(f"{registry.host}/k:1", cache)
    assert "of the unknown media type application/vnd.example.disk" in error.what
    inner = registry.index("k", "", [])
    inner.platform = {"os": "linux", "architecture": "amd64"}
    registry.index("k", "2", [inner])
    error = refused(f"{registry.host}/k:2", cache)
    assert f"of the unknown media type {OCI}.index.v1+json" in error.what
    assert DOCKER not in error.what


def test_a_blob_that_was_damaged_in_the_registry(registry: Registry, cache: Cache) -> None:
    made = layer(TINY)
    image = registry.image("k", "1", [made])
    place = registry.stored(made.digest)
    data = place.read_bytes()
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    error = refused(f"{registry.host}/k:1", cache)
    assert "a layer that" in error.what
    assert "does not have its digest" in error.what
    assert made.digest in error.advice
    place.write_bytes(data)
    manifest = registry.stored(image.digest)
    manifest.write_bytes(
        manifest.read_bytes().replace(b'"schemaVersion": 2', b'"schemaVersion":  2')
    )
    error = refused(f"{registry.host}/k:1", cache)
    assert "a manifest that" in error.what
    assert "does not have its digest" in error.what


def test_a_registry_that_fails(registry: Registry, cache: Cache) -> None:
    made = layer(TINY)
    registry.image("k", "1", [made])
    registry.stored(made.digest).unlink()
    error = refused(f"{registry.host}/k:1", cache)
    assert error.what == f"6.1: {registry.host} has k:1, but not all parts of it"
    repository = registry.root / "storage/docker/registry/v2/repositories/k"
    (repository / "_manifests/tags/1/current/link").write_text("no digest")
    error = refused(f"{registry.host}/k:1", cache)
    assert f"6.1: {registry.host} answered with HTTP status 500" in error.what
    assert "It said: unknown error." in error.advice


def test_a_connection_that_closes_in_the_middle(
    registry: Registry, cache: Cache, real: KernelImage
) -> None:
    registry.image("k", "1", [layer([("boot/vmlinuz", real.vmlinuz.read_bytes())])])
    proxy = CuttingProxy(registry.port, limit_bytes=1 << 60)
    proxy.headers_only = True
    error = refused(f"{proxy.host}/k:1", cache)
    assert f"6.1: {proxy.host} closed the connection in the middle" in error.what
    proxy.limit_bytes = 10
    error = refused(f"{proxy.host}/k:1", cache)
    assert f"6.1: {proxy.host} can't be reached" in error.what
    # The layer is larger than what one connection passes: it is resumed until it is complete.
    proxy.headers_only, proxy.limit_bytes = False, 3_000_000
    assert kernels.provide(oci_kernel(f"{proxy.host}/k:1"), cache)[0].digest == real.digest
    proxy.close()


def test_no_network_names_the_other_ways(registry: Registry, cache: Cache) -> None:
    registry.stop()
    error = refused(f"{registry.host}/k:5.4.276", cache, id="5.4.276")
    assert isinstance(error, UnreachableError)
    assert error.what == (
        f"5.4.276: {registry.host} can't be reached and no kernel of this series is cached."
    )
    for way in (
        "an apt source",
        "`invoke kernels.build 5.4.276`",
        "ci-kernels/5.4.276/vmlinuz",
        "KERN_DIR",
    ):
        assert way in error.advice


def test_a_damaged_kernel_without_a_network(registry: Registry, cache: Cache) -> None:
    registry.image("k", "6.1", [layer(TINY)])
    kernel = oci_kernel(f"{registry.host}/k:6.1")
    kernel = kernel.model_copy(update={"root": cache.root.parent})
    image, _ = kernels.provide(kernel, cache)
    registry.stop()
    os.truncate(image.boot, 7)
    with pytest.raises(UnreachableError, match=r"the cached kernel is damaged \(vmlinux does not"):
        kernels.provide(kernel, cache)
    (kernel.root / "ci-kernels/6.1").mkdir(parents=True)
    (kernel.root / "ci-kernels/6.1/vmlinuz").write_bytes(synthetic.bzimage(release="6.1.7"))
    placed, cached = kernels.provide(kernel, cache)
    assert (placed.release, cached) == ("6.1.7", False)
    assert kernels.provide(kernel, cache) == (placed, True)


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Registry]:
    """A registry that wants a login, with the image k:1."""
    with Registry(tmp_path / "registry", login=True) as running:
        running.image("k", "1", [layer(TINY)])
        yield running


def test_a_registry_that_wants_a_login(private: Registry, cache: Cache) -> None:
    error = refused(f"{private.host}/k:1", cache)
    assert f"6.1: {private.host} requires a login for k" in error.what
    assert f"`docker login {private.host}` or `podman login {private.host}`" in error.advice
    path = login_file(Path.home() / ".docker/config.json", private.host, "wrong")
    error = refused(f"{private.host}/k:1", cache)
    assert f"refused the login of {path} for k" in error.what
    assert "wrong" not in str(error)
    path.write_text("{")
    assert f"{path} can't be read" in refused(f"{private.host}/k:1", cache).advice


@pytest.mark.parametrize(
    ("place", "variable"),
    [
        ("home/.docker/config.json", None),
        ("home/.config/containers/auth.json", None),
        ("docker/config.json", "DOCKER_CONFIG"),
        ("run/containers/auth.json", "XDG_RUNTIME_DIR"),
        ("auth.json", "REGISTRY_AUTH_FILE"),
    ],
)
def test_where_logins_are_found(
    private: Registry,
    cache: Cache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    variable: str | None,
) -> None:
    path = tmp_path / place
    login_file(path, private.host)
    if variable:
        value = (
            path if variable == "REGISTRY_AUTH_FILE" else tmp_path / place.split("/", maxsplit=1)[0]
        )
        monkeypatch.setenv(variable, str(value))
    image, _ = kernels.provide(oci_kernel(f"{private.host}/k:1"), cache)
    assert image.release == synthetic.RELEASE


def test_tokens(tmp_path: Path, cache: Cache) -> None:
    with Registry(tmp_path / "registry") as open_to_all:
        for name in ("public/k", "private/k"):
            open_to_all.image(name, "1", [layer(TINY)])
    tokens = TokenServer(tmp_path / "tokens")
    with Registry(tmp_path / "registry", settings=tokens.settings) as registry:
        error = refused(f"{registry.host}/private/k:1", cache)
        assert "requires a login for private/k" in error.what
        assert f"`docker login {registry.host}`" in error.advice
        tokens.asked.clear()
        kernels.provide(oci_kernel(f"{registry.host}/public/k:1"), cache)
        assert tokens.asked == [("", "repository:public/k:pull")]  # one for all of its parts
        other = Cache(tmp_path / "other")
        path = login_file(Path.home() / ".docker/config.json", registry.host, "wrong")
        error = refused(f"{registry.host}/private/k:1", other)
        assert f"refused the login of {path} for private/k" in error.what
        login_file(path, f"{registry.host}/private")
        kernels.provide(oci_kernel(f"{registry.host}/private/k:1"), other)
        assert tokens.asked[-1] == (USER, "repository:private/k:pull")
    tokens.close()


def test_credential_helpers(
    private: Registry, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path.home() / ".docker/config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"credHelpers": {private.host: "of-this-test"}}))
    error = refused(f"{private.host}/k:1", cache)
    assert "docker-credential-of-this-test (named by" in error.advice
    helper = tmp_path / "bin/docker-credential-of-this-test"
    helper.parent.mkdir()
    answer = {"ServerURL": private.host, "Username": USER, "Secret": PASSWORD}
    helper.write_text(
        f"#!{sys.executable}\nimport json, sys\nassert sys.argv[1:] == ['get']\n"
        f"assert sys.stdin.read() == {private.host!r}\nprint({json.dumps(answer)!r})\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    assert kernels.provide(oci_kernel(f"{private.host}/k:1"), cache)[0].arch == "x86_64"


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        ("y", "docker.io/library/y:latest", "https://registry-1.docker.io/v2/library/y"),
        ("a/b:1", "docker.io/a/b:1", "https://registry-1.docker.io/v2/a/b"),
        ("ghcr.io/a/b:1", "ghcr.io/a/b:1", "https://ghcr.io/v2/a/b"),
        ("localhost/a:1", "localhost/a:1", "http://localhost/v2/a"),
        ("[::1]:5000/a:1", "[::1]:5000/a:1", "http://[::1]:5000/v2/a"),
        ("http://r.lan:5000/a:1", "r.lan:5000/a:1", "http://r.lan:5000/v2/a"),
        (f"r.io/a@sha256:{'a' * 64}", f"r.io/a@sha256:{'a' * 12}", "https://r.io/v2/a"),
    ],
)
def test_references(text: str, name: str, url: str) -> None:
    Source(oci=text)
    reference = Reference.parse(text)
    assert (str(reference), reference.base_url) == (name, url)


@pytest.mark.parametrize(
    "text", ["", "a b", "r.io/A:1", "r.io/../a", "https://r.io/a", "a@sha256:1"]
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match="oci"):
        Source(oci=text)


def test_an_image_boots(registry: Registry, real: KernelImage, project: ToolProject) -> None:
    assert real.modules is not None
    layers = [
        layer([("boot/vmlinuz", real.vmlinuz.read_bytes()), ("lib/modules/9.9/a.ko", b"")]),
        layer(
            [("lib/modules/.wh.9.9", b""), *tree(real.modules, f"lib/modules/{real.release}/")],
            "zstd",
        ),
    ]
    made = registry.image("cilium/ci-kernels", "6.1", layers)
    name = f"{registry.host}/cilium/ci-kernels:6.1"
    (project.root / "kernels.yaml").write_text(
        json.dumps(
            {"payload": {"ebpf": None, "go": None}, "kernels": {"6.1": {"source": {"oci": name}}}}
        )
    )
    script = project.script("release", "uname -r")
    cache = project.root / "cache"
    done = project.invoke(
        "run", "--kernel", "6.1", "--binary", script, env={"BPFMATRIX_CACHE": str(cache)}
    )
    run = project.result()
    assert done.status == 0, done.output
    assert by_name(run)["release"].outcome == "passed"
    assert run.release == real.release
    assert run.provenance["digest"] == real.digest
    assert made.digest.removeprefix("sha256:") in json.dumps(run.provenance)
    assert f"oci {name}@{made.digest[:19]}" in done.output
