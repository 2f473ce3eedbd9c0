"""A real kernel in RPM packages as RHEL has them: fetched by dnf, booted, and a script passes."""

import lzma
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
import zstandard

from bpfmatrix import kernels
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.results.outcome import Outcome
from tests.kernels.rpms import Part, RpmRepository
from tests.tool import NO_PAYLOAD, ToolProject, by_name

pytestmark = pytest.mark.integration
BUILD = "6.1.192-9.el9"


@pytest.fixture(scope="module")
def real_kernel() -> KernelImage:
    """Debian's 6.1, out of the user's cache if it is there."""
    source = Source.model_validate({"apt": {"suite": "bookworm-security"}})
    kernel = KernelConfig.model_validate({"id": "6.1", "source": source})
    return kernels.provide(kernel, Cache.default())[0]


@pytest.fixture
def real_repository(
    tmp_path: Path, rpm_key: Path, real_kernel: KernelImage
) -> Iterator[RpmRepository]:
    served = RpmRepository(tmp_path / "repository", rpm_key.parent)
    served.add(_parts(real_kernel), BUILD)
    served.publish()
    yield served
    served.web.stop()


def _parts(image: KernelImage) -> dict[str, Part]:
    """kernel-core with the kernel, kernel-modules-core with its modules, packed as vendors do."""
    assert image.modules is not None
    folder = f"lib/modules/{image.release}"
    core = {f"{folder}/vmlinuz": image.vmlinuz.read_bytes()}
    packed = {}
    for path in image.modules.rglob("*"):
        name = f"{folder}/{path.relative_to(image.modules)}"
        if path.name in {"modules.builtin", "modules.builtin.modinfo", "modules.order"}:
            core[name] = path.read_bytes()
        elif path.suffix == ".ko" and "virtio" in path.name:
            packed[f"{name}.xz"] = lzma.compress(path.read_bytes(), check=lzma.CHECK_CRC32)
        elif path.suffix == ".ko":
            packed[f"{name}.zst"] = zstandard.ZstdCompressor(1).compress(path.read_bytes())
    needs = f"kernel-modules-core-uname-r = {BUILD}.x86_64"
    return {
        "kernel-core": Part(core, requires=(needs, "dracut", "systemd")),
        "kernel-modules-core": Part(packed, provides=(needs,)),
    }


def test_a_vendors_kernel_boots(
    project: ToolProject,
    real_repository: RpmRepository,
    real_kernel: KernelImage,
    rpm_key: Path,
    tmp_path: Path,
) -> None:
    source = {"repository": real_repository.uri, "key": str(rpm_key)}
    # A module out of the package, beyond those that the machine itself needs.
    entry = {"source": {"dnf": source}, "modules": ["dummy"]}
    data = {"kernels": {"rebuild-9": entry}, "payload": dict(NO_PAYLOAD)}
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(data))
    project.script("look", "uname -r && grep '^dummy ' /proc/modules")
    env = {"BPFMATRIX_CACHE": str(tmp_path / "cache"), "no_proxy": "127.0.0.1"}
    done = project.invoke("run", "--kernel", "rebuild-9", "--binary", "look", "--cold", env=env)
    assert done.status == 0, done.output
    run = project.result("rebuild-9")
    assert run.outcome is Outcome.PASSED
    assert by_name(run)["look"].outcome is Outcome.PASSED
    assert run.release == real_kernel.release
    assert run.provenance["source"] == f"dnf {real_repository.uri}"
    names = [package["name"] for package in run.provenance["packages"]]
    assert names == ["kernel-core", "kernel-modules-core"]
    assert f"6.1.192 (Example Linux {BUILD}, dnf {real_repository.uri})" in done.output
    listed = project.invoke("kernels.list", env=env)
    assert BUILD in listed.output
    assert real_kernel.release in listed.output
