"""Pushes into a real registry on loopback: what it then has, and what goes wrong on the way."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host import download
from bpfmatrix.oci import publishing
from bpfmatrix.oci.image import resolve
from bpfmatrix.oci.manifests import Descriptor
from bpfmatrix.oci.publishing import NewImage, Pushed, attach, push, tag_index
from bpfmatrix.oci.reference import Reference
from bpfmatrix.oci.registry import RegistryClient
from tests.cutting_proxy import CuttingProxy
from tests.oci.registry import OCI, USER, Registry, TokenServer, layer, login_file

pytestmark = pytest.mark.integration

NOTES = {"org.opencontainers.image.version": "6.1.1"}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_logins_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _short_pauses_between_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF_SECONDS", 0.01)


def an_image(platform: str = "linux/amd64", text: bytes = b"kernel") -> NewImage:
    boot = {"boot/vmlinuz": text + platform.encode()}
    return NewImage(platform, (boot, {"lib/modules/6.1/a.ko": text * 1000}), NOTES)


def client_of(host: str, repository: str = "k") -> RegistryClient:
    return RegistryClient(Reference.parse(f"{host}/{repository}"), may_push=True)


def pushed_to(client: RegistryClient, image: NewImage, folder: Path) -> Pushed:
    folder.mkdir(exist_ok=True)
    return push(client, image, f"kernel-{image.platform[-5:]}", folder)


def manifest(registry: Registry, name: str, repository: str = "k") -> dict[str, Any]:
    kinds = ", ".join(f"{OCI}.{kind}.v1+json" for kind in ("index", "manifest"))
    url = f"{registry.url}/v2/{repository}/manifests/{name}"
    response = requests.get(url, headers={"Accept": kinds}, timeout=60)
    assert response.ok, response.text
    return dict(response.json())


def platforms(index: Mapping[str, Any]) -> list[str]:
    return [entry["platform"]["architecture"] for entry in index["manifests"]]


def test_an_image_is_pushed_once(registry: Registry, tmp_path: Path) -> None:
    client = client_of(registry.host)
    first = pushed_to(client, an_image(), tmp_path / "1")
    assert first.sent_bytes > 0
    assert pushed_to(client, an_image(), tmp_path / "2") == replace(first, sent_bytes=0)
    # In another repository of another registry, it has the same digest.
    other = pushed_to(client_of(registry.host, "other/k"), an_image(), tmp_path / "3")
    assert other.image == first.image
    assert not list(tmp_path.glob("1/*"))
    # Only what is new is sent: the layer of modules is there.
    changed = an_image()
    changed = NewImage(changed.platform, ({"boot/vmlinuz": b"x"}, changed.layers[1]), NOTES)
    assert 0 < pushed_to(client, changed, tmp_path / "4").sent_bytes < first.sent_bytes


def test_an_index_has_every_platform(registry: Registry, tmp_path: Path) -> None:
    client = client_of(registry.host)
    foreign = registry.image("k", "", [layer([("a", b"b")])], arch="mips")
    registry.index("k", "6.1", [foreign])
    for platform in ("linux/arm64", "linux/amd64"):
        image = pushed_to(client, an_image(platform), tmp_path / "s").image
        made = tag_index(client, "6.1", image, {"a": "b"})
    found = manifest(registry, "6.1")
    assert platforms(found) == ["amd64", "arm64", "mips"]
    assert found["annotations"] == {"a": "b"}
    assert found["manifests"][0]["annotations"] == NOTES
    # A newer image of one platform takes the place of that platform's old one only.
    newer = pushed_to(client, an_image(text=b"newer"), tmp_path / "s").image
    assert tag_index(client, "6.1", newer, {"a": "b"}) != made
    after = manifest(registry, "6.1")
    assert after["manifests"][0]["digest"] == newer.digest
    assert after["manifests"][1:] == found["manifests"][1:]
    reference = Reference.parse(f"{registry.host}/k:6.1")
    assert resolve(reference, "x86_64").digest == newer.digest


def test_another_image_with_the_same_configuration(registry: Registry, tmp_path: Path) -> None:
    client, tag = client_of(registry.host), "kernel-amd64"
    first = pushed_to(client, an_image(), tmp_path / "1")
    # Somebody lets the tag name other layers, with all else as it was.
    strange = manifest(registry, tag)
    evil = layer([("boot/vmlinuz", b"evil")])
    registry.blob("k", evil)
    strange["layers"][0] = evil.as_json()
    registry.manifest("k", tag, strange)
    assert pushed_to(client, an_image(), tmp_path / "2").image == first.image
    assert manifest(registry, tag)["layers"] == manifest(registry, first.image.digest)["layers"]


def test_what_a_tag_names_beside_our_platforms(registry: Registry, tmp_path: Path) -> None:
    client = client_of(registry.host)
    # A plain image, in no index.
    arm = registry.image("k", "6.1", [layer([("a", b"b")])], arch="arm64")
    image = pushed_to(client, an_image(), tmp_path / "s").image
    tag_index(client, "6.1", image, {})
    found = manifest(registry, "6.1")["manifests"]
    assert [entry["digest"] for entry in found] == [image.digest, arm.digest]
    # Several of one platform.
    others = [registry.image("k", "", [layer([("a", b"%d" % n)])], arch="arm") for n in range(4)]
    for n, other in enumerate(others[:2]):
        other.platform = {"os": "linux", "architecture": "arm", "variant": f"v{n + 6}"}
    for other in others[2:]:
        other.platform = {"os": "unknown", "architecture": "unknown"}
    old = registry.image("k", "", [layer([("a", b"old")])])
    index = registry.index("k", "6.2", [*others, old])
    assert len(manifest(registry, index.digest)["manifests"]) == 5
    tag_index(client, "6.2", image, {})
    found = manifest(registry, "6.2")["manifests"]
    assert [entry["digest"] for entry in found] == [
        image.digest,
        *(other.digest for other in others),
    ]
    assert found[1:] == [other.as_json() for other in others]


class Interrupted(RegistryClient):
    """A client that lets another push come in between before it writes the tag of an index."""

    other: Any = None

    def push_manifest(self, name: str, data: bytes, media_type: str) -> bool:
        if name == "6.1" and self.other is not None:
            other, self.other = self.other, None
            other()
        return super().push_manifest(name, data, media_type)


def test_two_pushes_at_once_lose_nothing(registry: Registry, tmp_path: Path) -> None:
    reference = Reference.parse(f"{registry.host}/k")
    client, second = Interrupted(reference), RegistryClient(reference)
    arm = pushed_to(second, an_image("linux/arm64"), tmp_path / "s").image
    amd = pushed_to(client, an_image("linux/amd64"), tmp_path / "s").image
    client.other = lambda: tag_index(second, "6.1", arm, {})
    made = tag_index(client, "6.1", amd, {})
    found = manifest(registry, "6.1")
    assert platforms(found) == ["amd64", "arm64"]
    assert manifest(registry, made.digest) == found


def test_two_pushes_side_by_side(registry: Registry, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def one(platform: str) -> None:
        try:
            client = client_of(registry.host)
            image = pushed_to(client, an_image(platform), tmp_path / platform[-5:]).image
            for number in range(5):
                tag_index(client, f"6.{number}", image, {})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(f"linux/{name}",)) for name in ("amd64", "arm64")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for number in range(5):
        assert platforms(manifest(registry, f"6.{number}")) == ["amd64", "arm64"]


def test_a_push_that_was_interrupted_goes_on(registry: Registry, tmp_path: Path) -> None:
    client = client_of(registry.host)

    def interrupt(text: str, fraction: float | None = None) -> None:
        if text.startswith("packing") and list(sent):
            raise KeyboardInterrupt
        if text.startswith("pushing") and fraction == 1.0:
            sent.append(text)

    sent: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        push(client, an_image(), "kernel", tmp_path, interrupt)
    assert publishing.find(client, "kernel") is None
    other = client_of(registry.host, "other")
    whole = push(other, an_image(), "kernel", tmp_path).sent_bytes
    rest = push(client, an_image(), "kernel", tmp_path).sent_bytes
    assert 0 < rest < whole


def test_a_connection_that_closes_in_the_middle(registry: Registry, tmp_path: Path) -> None:
    proxy = CuttingProxy(registry.port, limit_bytes=1 << 60)
    data = bytes(range(256)) * 20_000
    blob = Descriptor.to("application/octet-stream", data)
    proxy.request_limits = [1_000_000, 2_000_000]
    assert client_of(proxy.host).push_blob(blob, data)
    assert not proxy.request_limits
    assert registry.stored(blob.digest).read_bytes() == data
    other = Descriptor.to("application/octet-stream", data + b"x")
    proxy.request_limits = [1_000_000] * 50
    with pytest.raises(UnreachableError, match=f"{proxy.host} can't be reached"):
        client_of(proxy.host).push_blob(other, data + b"x")
    proxy.close()


def test_an_artifact_beside_an_image(registry: Registry, tmp_path: Path) -> None:
    client = client_of(registry.host)
    image = pushed_to(client, an_image(), tmp_path / "s").image
    for kind, text in (("a/x", b"1"), ("a/y", b"2"), ("a/x", b"3")):
        made = attach(client, image, kind, {"vmlinux": text}, NOTES, tmp_path)
        assert made.sent_bytes > 0
    assert attach(client, image, "a/x", {"vmlinux": b"3"}, NOTES, tmp_path).sent_bytes == 0
    # Debian's registry does not list referrers, so the list is in a tag.
    found = manifest(registry, image.digest.replace(":", "-"))
    assert [entry["artifactType"] for entry in found["manifests"]] == ["a/y", "a/x"]
    artifact = manifest(registry, found["manifests"][1]["digest"])
    assert artifact["subject"]["digest"] == image.digest
    assert artifact["artifactType"] == "a/x"


def refused(host: str, folder: Path, repository: str = "k") -> BpfmatrixError:
    with pytest.raises(KernelUnavailableError) as raised:
        pushed_to(client_of(host, repository), an_image(), folder)
    return raised.value


def test_a_registry_that_wants_a_login(tmp_path: Path) -> None:
    with Registry(tmp_path / "registry", login=True) as private:
        error = refused(private.host, tmp_path)
        assert f"{private.host} requires a login for k" in error.what
        assert f"`docker login {private.host}`" in error.advice
        login_file(Path.home() / ".docker/config.json", private.host)
        assert pushed_to(client_of(private.host), an_image(), tmp_path).sent_bytes > 0


def test_nobody_may_push(tmp_path: Path) -> None:
    tokens = TokenServer(tmp_path / "tokens")
    with Registry(tmp_path / "registry", settings=tokens.settings) as registry:
        path = login_file(Path.home() / ".docker/config.json", registry.host)
        pushed_to(client_of(registry.host, "mine/k"), an_image(), tmp_path)
        assert tokens.asked == [(USER, "repository:mine/k:pull,push")]  # one for all requests
        tokens.actions = {"pull"}
        error = refused(registry.host, tmp_path, "mine/other")
        assert error.what == f"{registry.host} refused the login of {path} for mine/other"
        assert "with a user who may push to it" in error.advice
    tokens.close()


def test_a_registry_that_is_down(registry: Registry, tmp_path: Path) -> None:
    registry.stop()
    error = refused(registry.host, tmp_path)
    assert isinstance(error, UnreachableError)
    assert error.what == f"{registry.host} can't be reached"
