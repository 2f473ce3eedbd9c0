"""Kernels that are pushed into a real registry on loopback, and read back from there."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import zstandard
from elftools.elf.elffile import ELFFile

from bpfmatrix import kernels
from bpfmatrix.cli.kernels_output import push_kernels
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import silent
from bpfmatrix.kernels import KernelImage, pinned
from bpfmatrix.kernels.formats.btf import btf_of
from bpfmatrix.kernels.image import MODULE_CHECKSUMS
from bpfmatrix.kernels.oci.publish import (
    DEBUG_INFO,
    digest_tag,
    publish,
    require_distinct_tags,
    tags_of,
)
from bpfmatrix.kernels.symbols.debug_info import Symbols
from bpfmatrix.oci.image import resolve
from bpfmatrix.oci.publishing import TAG_LIMIT
from bpfmatrix.oci.reference import Reference
from tests.kernels import synthetic
from tests.kernels.conftest import apt_kernel
from tests.kernels.image_folders import declared, put, put_module
from tests.oci.registry import OCI, Registry
from tests.tool import ToolProject

VERSION = "6.1.7"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as running:
        yield running


def a_kernel(root: Path, id: str = "6.1") -> KernelConfig:
    """A kernel of a folder, with a module and a configuration."""
    put(root / "images" / id / "vmlinuz", VERSION)
    put(root / "images" / id / "config", "", b"CONFIG_BPF=y\n")
    put_module(root / "images" / id, VERSION)
    return declared(root, id)


def from_registry(registry: Registry, tag: str, arch: str = "x86_64") -> KernelConfig:
    source = Source(oci=f"{registry.host}/kernels:{tag}")
    return KernelConfig.model_validate({"id": "6.1", "arch": arch, "source": source})


def target_of(registry: Registry) -> Reference:
    return Reference.parse(f"{registry.host}/kernels")


def files_of(registry: Registry, tag: str) -> dict[str, bytes]:
    """Return the files in all layers of an image."""
    url = f"{registry.url}/v2/kernels"
    accept = {"Accept": f"{OCI}.manifest.v1+json"}
    manifest = requests.get(f"{url}/manifests/{tag}", headers=accept, timeout=60).json()
    found = {}
    for layer in manifest["layers"]:
        data = requests.get(f"{url}/blobs/{layer['digest']}", timeout=60).content
        plain = zstandard.ZstdDecompressor().stream_reader(data).read()
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            for entry in archive:
                if file := archive.extractfile(entry):
                    found[entry.name] = file.read()
    return found


def debug_files_of(registry: Registry, tag: str) -> dict[str, bytes]:
    """Return the files of the debug information beside the image that a tag names now."""
    url = f"{registry.url}/v2/kernels/manifests"
    accept = {"Accept": f"{OCI}.manifest.v1+json, {OCI}.index.v1+json"}
    image = requests.head(f"{url}/{tag}", headers=accept, timeout=60)
    referrers = image.headers["Docker-Content-Digest"].replace(":", "-")
    (artifact,) = requests.get(f"{url}/{referrers}", headers=accept, timeout=60).json()["manifests"]
    assert artifact["artifactType"] == DEBUG_INFO
    return files_of(registry, artifact["digest"])


@pytest.mark.integration
def test_a_pushed_kernel_is_the_same(
    registry: Registry, cache: Cache, project: ToolProject
) -> None:
    real = kernels.provide(apt_kernel("6.1", "bookworm-security"), Cache.default())[0]
    project.configure(("6.1",))
    push = ("kernels.push", "6.1", "--to", f"oci://{registry.host}/kernels")
    done = project.invoke(*push)
    assert done.status == 0, done.output
    assert f"{registry.host}/kernels:{real.version}, 6.1  sha256:" in done.output
    image, _ = kernels.provide(from_registry(registry, "6.1"), cache)
    assert (image.digest, image.release, image.version) == (
        real.digest,
        real.release,
        real.version,
    )
    fetched = f"sha256:{image.provenance.packages[0].sha256}"
    for tag in (real.version, digest_tag(real)):
        assert resolve(replace(target_of(registry), tag=tag), "x86_64").digest == fetched
    assert image.config is not None
    assert real.config is not None
    assert image.config.read_bytes() == real.config.read_bytes()
    modules = [json.loads((one.folder / MODULE_CHECKSUMS).read_text()) for one in (image, real)]
    assert modules[0] == modules[1]
    files = files_of(registry, digest_tag(real))
    with real.boot.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".BTF")
        assert section is not None
        assert files["boot/vmlinux.btf"] == section.data()
    assert json.loads(files["boot/provenance.json"])["provenance"]["vendor"] == "Debian"
    done = project.invoke(*push)
    assert "already there" in done.output


@pytest.mark.integration
def test_two_hosts_push_the_same_bytes(registry: Registry, tmp_path: Path) -> None:
    pushed = []
    for name in ("one", "other"):
        kernel = a_kernel(tmp_path / name)
        own = Cache(tmp_path / name / "cache")
        image, _ = kernels.provide(kernel, own)
        pushed.append(publish(kernel, image, None, target_of(registry), own))
    assert pushed[0].sent_bytes > 0
    assert pushed[1].sent_bytes == 0
    assert pushed[1].reference == pushed[0].reference
    assert pushed[1].tags == (VERSION, "6.1")
    everything = b"".join(files_of(registry, digest_tag(image)).values())
    assert os.fsencode(tmp_path) not in everything


@pytest.mark.integration
def test_another_architecture_is_added(registry: Registry, tmp_path: Path, cache: Cache) -> None:
    x86 = a_kernel(tmp_path / "x86")
    put(tmp_path / "arm/images/6.1-arm64/vmlinuz", "", synthetic.arm64_image("6.1.7-arm64"))
    arm = declared(tmp_path / "arm", "6.1-arm64", arch="aarch64")
    digests = {}
    for kernel in (x86, arm):
        image, _ = kernels.provide(kernel, cache)
        publish(kernel, image, None, target_of(registry), cache)
        digests[image.arch] = image.digest
    empty = Cache(tmp_path / "empty")
    for arch, digest in digests.items():
        for tag in (VERSION, "6.1"):
            assert kernels.provide(from_registry(registry, tag, arch), empty)[0].digest == digest


@pytest.mark.integration
def test_debug_information_and_system_map(
    registry: Registry, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = a_kernel(tmp_path)
    vmlinux = put(tmp_path / "build/vmlinux", "", b"\x7fELF with DWARF")
    put(tmp_path / "build/System.map", "", b"0 T start\n")
    image, _ = kernels.provide(kernel, cache)
    made = publish(kernel, image, Symbols(vmlinux, None), target_of(registry), cache)
    assert made.has_debug_info
    assert files_of(registry, digest_tag(image))["boot/System.map"] == b"0 T start\n"
    assert made.is_made_here
    debug = {f"usr/lib/debug/boot/vmlinux-{VERSION}": vmlinux.read_bytes()}
    assert debug_files_of(registry, digest_tag(image)) == debug
    # A kernel without it, as the next push may be, does not remove it.
    shutil.rmtree(tmp_path / "build")
    again = publish(kernel, image, None, target_of(registry), cache)
    assert (again.has_debug_info, again.is_made_here, again.sent_bytes) == (False, False, 0)
    assert again.reference == made.reference
    # What this host did not pack, it does not sign.
    put(tmp_path / "bin/cosign", "", b"#!/bin/sh\nexit 9\n").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    config = Config.model_validate({"kernels": {"6.1": {"source": kernel.source}}}).at(tmp_path)
    project = Project(tmp_path, config, cache)
    with pytest.raises(BpfmatrixError, match=r"6\.1 is not signed: the registry has"):
        push_kernels(project, ["6.1"], target_of(registry), True, None, silent)
    for tag in (digest_tag(image), "6.1-linux-amd64"):
        assert files_of(registry, tag)["boot/System.map"] == b"0 T start\n"
        assert debug_files_of(registry, tag) == debug


@pytest.mark.integration
def test_the_same_vmlinuz_with_another_configuration(
    registry: Registry, tmp_path: Path, cache: Cache
) -> None:
    pins = {}
    for text in (b"CONFIG_BPF=y\n", b"CONFIG_BPF=m\n"):
        kernel = a_kernel(tmp_path / text.decode()[11])
        put(kernel.root / "images/6.1/config", "", text)
        kernel = kernel.model_copy(update={"registry": f"{registry.host}/kernels"})
        image, _ = kernels.provide(kernel, cache)
        publish(kernel, image, None, target_of(registry), cache)
        pinned.pin(kernel, image, cache)
        shutil.rmtree(kernel.root / "images")
        pins[text] = kernel
    for text, kernel in pins.items():
        image, _ = kernels.provide(kernel, Cache(tmp_path / "empty"))
        assert image.config is not None
        assert image.config.read_bytes() == text


@pytest.mark.parametrize(
    ("id", "arch", "tags"),
    [
        ("6.1", "x86_64", ("6.1.192", "6.1")),
        ("6.1.192", "x86_64", ("6.1.192",)),
        ("6.1-arm64", "aarch64", ("6.1.192", "6.1")),
        ("6.1-aarch64", "aarch64", ("6.1.192", "6.1")),
        ("6.1-arm64", "x86_64", ("6.1.192-arm64", "6.1-arm64")),
        ("6.1~rc/1 ü", "x86_64", ("6.1.192-rc-1--", "6.1-rc-1--")),
        ("6.1-rt", "x86_64", ("6.1.192-rt", "6.1-rt")),
        ("6.1-rt-arm64", "aarch64", ("6.1.192-rt", "6.1-rt")),
        ("rocky-9", "x86_64", ("6.1.192-rocky-9", "rocky-9")),
    ],
)
def test_tags(id: str, arch: str, tags: tuple[str, ...], tmp_path: Path) -> None:
    provenance = kernels.Provenance("test", ())
    image = KernelImage(
        arch, "6.1.0-1", "6.1.192", "sha256:0", tmp_path, False, tmp_path, None, provenance
    )
    kernel = declared(tmp_path, "6.1", arch=arch).model_copy(update={"id": id})
    assert tags_of(kernel, image) == tags


def test_two_ids_with_one_tag(tmp_path: Path) -> None:
    def kernel(id: str, arch: str = "x86_64") -> KernelConfig:
        return declared(tmp_path, "6.1", arch=arch).model_copy(update={"id": id})

    long = [kernel(f"6.1-{'x' * 120}{end}") for end in ("one", "two")]
    distinct = [kernel("6.1"), kernel("6.1-arm64", "aarch64"), kernel("6.1-debug")]
    require_distinct_tags(distinct, distinct)
    for one, other in ((kernel("6.1+debug"), distinct[2]), long):
        with pytest.raises(UsageError, match=f"would have the same tag, {other.id[:TAG_LIMIT]}\n"):
            require_distinct_tags([one], [*distinct, *long])


@pytest.mark.integration
def test_a_long_id(registry: Registry, tmp_path: Path, cache: Cache) -> None:
    kernel = a_kernel(tmp_path, f"6.1-{'x' * 140}")
    image, _ = kernels.provide(kernel, cache)
    assert publish(kernel, image, None, target_of(registry), cache).tags[1] == kernel.id[:TAG_LIMIT]


def test_btf_is_found_by_its_header(tmp_path: Path) -> None:
    def btf(types: bytes, strings: bytes, order: str = "little") -> bytes:
        numbers = (24, 0, len(types), len(types), len(strings))
        magic = (0xEB9F).to_bytes(2, order) + b"\1\0"  # type: ignore[arg-type]
        return magic + b"".join(n.to_bytes(4, order) for n in numbers) + types + strings  # type: ignore[arg-type]

    kernel = tmp_path / "Image"
    whole = btf(b"t" * 150_000, b"\0int\0")
    module = btf(b"t" * 200, b"\0int\0")
    kernel.write_bytes(b"code" + module + b"\x9f\xeb\1\0" + b"more" * 9 + whole + b"rest")
    assert btf_of(kernel) == whole
    big = btf(b"t" * 150_000, b"\0int\0", "big")
    kernel.write_bytes(b"code" + big)
    assert btf_of(kernel) == big
    packed = zstandard.compress(b"code" * 9 + big)
    kernel.write_bytes(b"\x28\xb5\x2f\xfd by chance" + packed + b"more")  # as those of s390x
    assert btf_of(kernel) == big
    for other in (b"", b"code" + module, b"code" + whole[:-1], whole[:-1] + b"x", whole[:20]):
        kernel.write_bytes(other)
        assert btf_of(kernel) is None
