"""Objects in the images of a real registry on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError, UsageError
from bpfmatrix.host.progress import silent
from bpfmatrix.oci import manifests
from bpfmatrix.oci.image import OciImage
from bpfmatrix.oci.reference import Reference
from bpfmatrix.oci.registry import RegistryClient
from bpfmatrix.verify import published_objects
from bpfmatrix.verify.objects import ObjectFile, find
from tests.oci.registry import OCI, Descriptor, Registry, layer
from tests.verify.objectfiles import REJECTED, compiled

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled(REJECTED, tmp_path_factory.mktemp("objects") / "a.bpf.o").read_bytes()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("BPFMATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return declaring(tmp_path, [])


def declaring(root: Path, objects: list[dict[str, object]]) -> Project:
    kernels = {"6.1": {"source": {"oci": "127.0.0.1:9/k:1"}}}
    (root / "kernels.yaml").write_text(
        json.dumps({"kernels": kernels, "verify": {"objects": objects}})
    )
    return Project.load(root)


def gadget(registry: Registry, tag: str, platforms: dict[str, bytes]) -> None:
    """Push an image as Inspektor Gadget's `ig image build` makes it."""
    made = []
    for architecture, program in platforms.items():
        config = Descriptor("application/vnd.gadget.config.v1+yaml", b"name: a\n")
        parts = [
            Descriptor("application/vnd.gadget.ebpf.program.v1+binary", program),
            Descriptor("application/vnd.gadget.wasm.program.v1+binary", b"\0asm"),
        ]
        for blob in (config, *parts):
            registry.blob("gadget", blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "artifactType": "application/vnd.gadget.v1+binary",
            "config": config.as_json(),
            "layers": [part.as_json() for part in parts],
        }
        pushed = registry.manifest("gadget", "", manifest)
        pushed.platform = {"os": "linux", "architecture": architecture}
        made.append(pushed)
    registry.index("gadget", tag, made)


def test_only_the_objects_of_a_gadget_are_fetched(
    registry: Registry, project: Project, data: bytes
) -> None:
    gadget(registry, "1", {"amd64": data})
    registry.stored(Descriptor("", b"\0asm").digest).unlink()
    name = f"oci:{registry.host}/gadget:1"
    assert contents(find(project, [name])) == {name: data}


@pytest.mark.parametrize("size_bytes", [2 << 30, 10**400], ids=["large", "no size"])
def test_an_image_that_is_too_large_is_not_fetched(project: Project, size_bytes: int) -> None:
    layers = (manifests.Descriptor(f"{OCI}.layer.v1.tar", f"sha256:{'0' * 64}", size_bytes),)
    image = OciImage("it", "", {}, layers, RegistryClient(Reference.parse("127.0.0.1:9/it:1")))
    with pytest.raises(KernelUnavailableError, match="the image it has more than 1 GiB"):
        published_objects._fetched(image, project.cache, lambda _: True, silent)


def contents(found: list[ObjectFile]) -> dict[str, bytes]:
    return {one.name: one.path.read_bytes() for one in found}


def refused(project: Project, name: str, archs: tuple[str, ...] = ("x86_64",)) -> BpfmatrixError:
    with pytest.raises(BpfmatrixError) as raised:
        find(project, [name], archs=archs)
    return raised.value


def test_a_gadget(registry: Registry, project: Project, data: bytes) -> None:
    gadget(registry, "1", {"amd64": data, "arm64": data})
    name = f"oci:{registry.host}/gadget:1"
    for written in (name, name.replace("oci:", "oci://")):
        for archs in (("x86_64",), ("x86_64", "aarch64")):
            assert contents(find(project, [written], archs=archs)) == {name: data}
    other = data + b"\0"
    gadget(registry, "2", {"amd64": data, "arm64": other})
    two = f"oci:{registry.host}/gadget:2"
    assert contents(find(project, [two], archs=["aarch64"])) == {two: other}
    error = refused(project, two, ("x86_64", "aarch64"))
    assert isinstance(error, UsageError)
    assert error.what == f"{two} has different objects for aarch64 and x86_64"


def test_a_bytecode_image(registry: Registry, project: Project, data: bytes) -> None:
    one = layer([("a.bpf.o", data), ("README", b"text")])
    registry.image("bytecode", "1", [one])
    name = f"oci:{registry.host}/bytecode:1"
    # eBPF does not depend on the machine that built the image.
    assert contents(find(project, [name], archs=["aarch64"])) == {name: data}
    both = layer([("a.bpf.o", data), ("more/b", data + b"\0"), ("bin/x", b"\x7fELF no eBPF")])
    registry.image("bytecode", "2", [both])
    two = f"oci:{registry.host}/bytecode:2"
    found = contents(find(project, [two], archs=["x86_64"]))
    assert found == {f"{two}#a.bpf.o": data, f"{two}#more/b": data + b"\0"}
    assert contents(find(project, [f"{two}#a.bpf.o"])) == {f"{two}#a.bpf.o": data}
    error = refused(project, f"{two}#c.o")
    assert (error.what, error.advice) == (f"{two} has no object c.o", "It has: a.bpf.o, more/b.")


def test_objects_for_big_endian_machines_are_left_out(
    registry: Registry, project: Project, data: bytes
) -> None:
    both = [("a.o", data), ("bpfeb/a.o", b"\x7fELF\2\2" + bytes(12) + b"\0\xf7")]
    registry.image("k", "1", [layer(both)])
    name = f"oci:{registry.host}/k:1"
    assert contents(find(project, [name])) == {name: data}
    assert [each.name for each in find(project, [f"{name}#bpfeb/a.o"])] == [f"{name}#bpfeb/a.o"]


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(429)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_what_is_at_hand_is_taken_if_there_were_too_many_requests(
    registry: Registry, project: Project, data: bytes
) -> None:
    registry.image("k", "1", [layer([("a.o", data)])])
    name = f"oci:{registry.host}/k:1"
    find(project, [name])
    registry.stop()
    with ThreadingHTTPServer(("127.0.0.1", registry.port), _Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        said: list[str] = []
        found = find(project, [name], progress=lambda text, *_: said.append(text))
        assert contents(found) == {name: data}
        server.shutdown()
    assert any("too many requests" in text for text in said)


def test_a_tag_moves_and_is_kept(registry: Registry, project: Project, data: bytes) -> None:
    registry.image("k", "1", [layer([("a.o", data)])])
    name = f"oci:{registry.host}/k:1"
    assert contents(find(project, [name])) == {name: data}
    newer = data + b"\0"
    digest = registry.image("k", "1", [layer([("a.o", newer)])]).digest
    (found,) = find(project, [name])
    assert found.path.read_bytes() == newer
    pinned = f"oci:{registry.host}/k@{digest}"
    find(project, [pinned])
    registry.stop()
    # The last one is at hand without the registry.
    assert contents(find(project, [name])) == {name: newer}
    assert [each.path.read_bytes() for each in find(project, [pinned])] == [newer]
    found.path.write_bytes(b"damaged")
    error = refused(project, name)
    assert isinstance(error, UnreachableError)
    assert f"the image {name.removeprefix('oci:')} is not in the cache" in error.what


def test_images_of_kernels_yaml(
    registry: Registry, project: Project, data: bytes, tmp_path: Path
) -> None:
    registry.image("k", "1", [layer([("a.o", data)])])
    name = f"oci:{registry.host}/k:1"
    (tmp_path / "own.o").write_bytes(data)
    settings: dict[str, object] = {"path": name, "optional": ["unchecked"]}
    project = declaring(tmp_path, [settings, {"path": "own.o"}])
    found = {each.name: each for each in find(project, [])}
    assert set(found) == {name, "own.o"}
    assert found[name].settings.optional == ["unchecked"]
    url = name.replace("oci:", "oci://")
    for written in (name, url, f"{name}#a.o", f"{url}#a.o"):
        (given,) = find(project, [written, name])
        assert (given.name, given.settings.optional) == (name, ["unchecked"]), written
    # Declared one by one, as a URL.
    two = f"oci:{registry.host}/k:2"
    registry.image("k", "2", [layer([("a.o", data), ("b.o", data + b"\0")])])
    declared = {**settings, "path": f"{two.replace('oci:', 'oci://')}#a.o"}
    given_two = {one.name: one for one in find(declaring(tmp_path, [declared]), [two])}
    assert given_two[f"{two}#a.o"].settings.optional == ["unchecked"]
    assert given_two[f"{two}#b.o"].settings.optional == []


def test_images_without_an_object(registry: Registry, project: Project) -> None:
    registry.image("k", "1", [layer([("README", b"text")])])
    name = f"{registry.host}/k:1"
    error = refused(project, f"oci:{name}")
    assert isinstance(error, KernelUnavailableError)
    assert error.what == f"there is no eBPF object in the image {name}"
    assert f"{OCI}.layer.v1.tar+gzip" in error.advice
    registry.image("k", "2", [Descriptor("application/vnd.example.chart.tar+gzip", b"x")])
    assert "vnd.example.chart" in refused(project, f"oci:{registry.host}/k:2").advice
    assert f"{registry.host} has no k:3" in refused(project, f"oci:{registry.host}/k:3").what
    assert refused(project, "oci:A B").exit_status == 2
    registry.image("k", "4", [layer([("../a.o", b"x")])])
    assert "k:4: the image is refused" in refused(project, f"oci:{registry.host}/k:4").what
