"""Kernels as vendors ship them, as far as they can be had: each boots, and loads an eBPF program.

Debian's own flavours are fetched. The packages of other vendors can't be: their layouts are made of
Debian's kernel, with its modules packed as the vendor packs them. `nox -s vendors` runs these.
"""

import gzip
import lzma
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from bpfmatrix import kernels
from bpfmatrix.config.project import Project
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.payload import ebpf
from bpfmatrix.results import files
from bpfmatrix.results.outcome import Outcome
from tests.kernels.archive import Archive
from tests.kernels.conftest import keyring, rpm_key
from tests.kernels.rpms import Part, RpmRepository, build_rpms
from tests.tool import REPOSITORY, ToolProject

__all__ = ["keyring", "rpm_key"]

pytestmark = [pytest.mark.integration, pytest.mark.vendors]

# A module that no machine needs, which shows that the kernel takes the modules that it is given.
EXTRA = "dummy"
# The folders of modules that a machine needs: less to pack than all of them.
NEEDED = (
    *("arch", "crypto", "fs", "lib", "drivers/block", "drivers/char", "drivers/misc"),
    *("drivers/net/dummy.ko", "drivers/virtio", "net/core"),
)
PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
    ".zst": zstandard.ZstdCompressor(1).compress,
}


@pytest.fixture(scope="module")
def debian_kernel() -> KernelImage:
    """Debian's 6.1 for cloud machines: of its virtio drivers, none is built in."""
    ours = Project.load(REPOSITORY)
    return kernels.provide(ours.config.kernel("6.1"), ours.cache)[0]


@pytest.fixture(scope="module")
def object_file() -> Path:
    built = ebpf.objects(Project.load(REPOSITORY)).files
    return next(path for path in built if path.name == "sched_monitor.bpf.o")


def modules_of(image: KernelImage, suffix: str) -> dict[str, bytes]:
    """The modules that a machine needs, with their signatures, packed, below lib/modules."""
    assert image.modules
    found = {}
    for path in sorted(image.modules.rglob("*")):
        place = str(path.relative_to(image.modules))
        if path.name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            found[place] = path.read_bytes()
        elif path.suffix == ".ko" and place.removeprefix("kernel/").startswith(NEEDED):
            found[f"{place}{suffix}"] = PACKED[suffix](path.read_bytes())
    return found


def loads(
    project: ToolProject,
    object_file: Path,
    source: Mapping[str, Any],
    cache: Path | None = None,
    **entry: Any,
) -> str:
    """Run a script that looks for the module, load and attach an object; return the release."""
    data = {
        "payload": {"ebpf": None, "go": None, "binaries": ["look"]},
        "kernels": {"vendor": {"source": dict(source), "modules": [EXTRA], **entry}},
    }
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(data))
    project.script("look", f"grep '^{EXTRA} ' /proc/modules")
    env = {"no_proxy": "127.0.0.1"}
    if cache:
        env["BPFMATRIX_CACHE"] = str(cache)
    ran = project.invoke("run", "--kernel", "vendor", env=env)
    assert ran.status == 0, ran.output
    words = ("verify", "--kernel", "vendor", "--attach", str(object_file))
    verified = project.invoke(*words, env=env)
    assert verified.status == 0, verified.output
    result = files.read_verification(project.root / ".bpfmatrix/verify/vendor.json")
    assert result.outcome is Outcome.PASSED
    assert all(program.attached for program in result.programs), verified.output
    return result.release


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of its own for kernels that the test makes, with the built programs of the user's."""
    users, own = kernels_cache(), tmp_path / "own-cache"
    own.mkdir()
    for name in ("busybox", "guest-programs", "loader-sources", "loaders"):
        if (users / name).exists():
            shutil.copytree(users / name, own / name, symlinks=True)
    return own


def kernels_cache() -> Path:
    return Project.load(REPOSITORY).cache.root


@pytest.mark.parametrize(
    ("suite", "package", "end"),
    [
        ("bookworm-security", "linux-image-amd64", "-amd64"),
        ("bookworm-security", "linux-image-rt-amd64", "-rt-amd64"),
        ("bookworm-security", "linux-image-6.1.*-cloud-amd64-unsigned", "-cloud-amd64"),
        ("trixie-backports", "linux-image-amd64", "-amd64"),
        ("trixie-backports", "linux-image-rt-amd64", "-rt-amd64"),
    ],
)
def test_flavours_of_debian(
    project: ToolProject, object_file: Path, suite: str, package: str, end: str
) -> None:
    release = loads(project, object_file, {"apt": {"suite": suite, "package": package}})
    assert release.endswith(end)
    assert end != "-amd64" or "cloud" not in release


@pytest.mark.parametrize("suite", ["bookworm-security", "trixie-security", "trixie-backports"])
def test_modules_must_be_signed(project: ToolProject, object_file: Path, suite: str) -> None:
    # As CONFIG_MODULE_SIG_FORCE does. Unpacking a module must leave its signature behind it.
    source = {"apt": {"suite": suite, "package": "linux-image-cloud-amd64"}}
    loads(project, object_file, source, kernel_args=["module.sig_enforce=1"])


@pytest.mark.parametrize("suffix", list(PACKED))
def test_modules_packed_as_vendors_do(
    project: ToolProject,
    object_file: Path,
    debian_kernel: KernelImage,
    cache: Path,
    suffix: str,
) -> None:
    release = debian_kernel.release
    folder = project.root / "image"
    for place, data in modules_of(debian_kernel, suffix).items():
        path = folder / "lib/modules" / release / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    shutil.copy(debian_kernel.vmlinuz, folder / "vmlinuz")
    # An initrd of the vendor, which is not used: the guest has one of its own.
    (folder / "initrd.img").write_bytes(b"no initrd")
    args = ["module.sig_enforce=1"]
    assert loads(project, object_file, {"directory": "image"}, cache, kernel_args=args) == release


def parts_of_vendor(image: KernelImage, vendor: str) -> dict[str, Part]:
    """The packages of a kernel, split and named as a vendor does; the kernel's own comes first."""
    release = image.release
    folder = f"lib/modules/{release}"
    suffix = {"amazon": ".xz", "rhel-8": ".xz", "rhel-9": ".xz"}.get(vendor, ".zst")
    modules = {f"{folder}/{k}": v for k, v in modules_of(image, suffix).items()}
    built_in = {k: v for k, v in modules.items() if "/modules." in k}
    loadable = {k: v for k, v in modules.items() if k not in built_in}
    kernel = {f"{folder}/vmlinuz": image.vmlinuz.read_bytes(), **built_in}
    assert image.config
    kernel[f"{folder}/config"] = image.config.read_bytes()
    kernel[f"{folder}/System.map"] = b"0 a\n"
    initrd = {f"boot/initramfs-{release}.img": b"no initramfs"}
    needs = f"{vendor}-modules = 1"
    match vendor:
        case "rhel-8":
            return {"kernel-core": Part({**kernel, **loadable, **initrd})}
        case "rhel-9":
            core = Part({**kernel, **initrd}, requires=(needs, "dracut"))
            return {"kernel-core": core, "kernel-modules-core": Part(loadable, provides=(needs,))}
        case "uek-7":
            core = Part(kernel, requires=("dracut",))
            return {"kernel-uek-core": core, "kernel-uek-modules": Part(loadable)}
        case "uek-8":
            core = Part(kernel, requires=(needs,))
            return {
                "kernel-uek-core": core,
                "kernel-uek-modules-core": Part(loadable, provides=(needs,)),
            }
        case "amazon":
            boot = {
                f"boot/vmlinuz-{release}": kernel.pop(f"{folder}/vmlinuz"),
                f"boot/config-{release}": kernel.pop(f"{folder}/config"),
            }
            return {"kernel6.12": Part({**boot, **kernel, **loadable})}
        case _:  # suse has all of it below usr
            whole = {f"usr/{k}": v for k, v in {**kernel, **loadable}.items()}
            return {"kernel-default": Part(whole)}


@pytest.fixture
def repository(
    tmp_path: Path, rpm_key: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RpmRepository]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = RpmRepository(tmp_path / "repository", rpm_key.parent)
    yield served
    served.web.stop()


@pytest.mark.parametrize("vendor", ["rhel-8", "rhel-9", "uek-7", "uek-8", "amazon", "suse"])
def test_layouts_of_rpm_packages(
    project: ToolProject,
    object_file: Path,
    debian_kernel: KernelImage,
    repository: RpmRepository,
    rpm_key: Path,
    cache: Path,
    vendor: str,
) -> None:
    parts = parts_of_vendor(debian_kernel, vendor)
    repository.add(parts, f"{debian_kernel.version}-9.vendor")
    repository.publish()
    source = {
        "repository": repository.uri,
        "key": str(rpm_key),
        "package": next(iter(parts)),
    }
    assert loads(project, object_file, {"dnf": source}, cache) == debian_kernel.release


def test_single_rpm_files(
    project: ToolProject, object_file: Path, debian_kernel: KernelImage, cache: Path
) -> None:
    parts = parts_of_vendor(debian_kernel, "rhel-9")
    rpms = build_rpms(project.root / "rpms", parts, f"{debian_kernel.version}-9.vendor")
    source = {"package": {"files": [str(path) for path in rpms]}}
    assert loads(project, object_file, source, cache) == debian_kernel.release


def test_the_layout_of_ubuntus_packages(
    project: ToolProject,
    object_file: Path,
    debian_kernel: KernelImage,
    keyring: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    release = debian_kernel.release
    assert debian_kernel.config
    modules = {
        f"lib/modules/{release}/{k}": v for k, v in modules_of(debian_kernel, ".zst").items()
    }
    modules[f"boot/config-{release}"] = debian_kernel.config.read_bytes()
    image = {f"boot/vmlinuz-{release}": debian_kernel.vmlinuz.read_bytes()}
    served = Archive(tmp_path / "ubuntu", keyring.parent, "noble-updates", "Ubuntu")
    with served as archive:
        needs = f"linux-base, linux-modules-{release}"
        archive.add(f"linux-image-{release}", "6.8.0-45.45", image, depends=needs)
        archive.add(f"linux-modules-{release}", "6.8.0-45.45", modules)
        archive.publish()
        source = {
            "mirror": archive.uri,
            "suite": "noble-updates",
            "keyring": str(keyring),
            "package": "linux-image-6.*-cloud-amd64",
        }
        assert loads(project, object_file, {"apt": source}, cache) == release
