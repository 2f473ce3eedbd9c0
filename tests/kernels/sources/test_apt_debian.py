"""The real archive, as this host's apt reaches it: what only Debian's own packages can show."""

import subprocess

import pytest

from bpfmatrix import kernels
from bpfmatrix.host.cache import Cache
from tests.kernels.conftest import apt_kernel

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("id", "suite"), [("6.1", "bookworm-security"), ("7.3", "trixie-backports")]
)
def test_debians_kernels(id: str, suite: str) -> None:
    # The user's own cache: the kernels in it are those that the other tests boot.
    kernel, cache = apt_kernel(id, suite), Cache.default()
    image, _ = kernels.provide(kernel, cache)
    image.verify()
    assert image.version.startswith(f"{id}.")
    assert image.release in image.boot.read_bytes().decode("latin-1")
    assert image.pvh
    assert image.provenance.vendor == "Debian"
    assert image.modules is not None
    assert image.modules.name == image.release
    assert not list(image.modules.rglob("*.ko.*"))
    dependencies = (image.modules / "modules.dep").read_text().splitlines()
    (name,) = (line.split(":")[0] for line in dependencies if "/virtio_blk.ko:" in line)
    assert image.read_modules([name])[name][:4] == b"\x7fELF"
    # 6.1 has it as a module, 7.3 built in; the machine needs to know.
    built_in = (image.modules / "modules.builtin").read_text()
    assert ("/virtio_pci.ko" in built_in) == (id == "7.3")
    assert image.config is not None
    assert "CONFIG_PVH=y" in image.config.read_text()
    assert kernels.provide(kernel, cache) == (image, True)


@pytest.mark.parametrize("id", ["6.1", "7.3"])
def test_a_booted_kernel_says_its_release(id: str) -> None:
    suite = {"6.1": "bookworm-security", "7.3": "trixie-backports"}[id]
    image, _ = kernels.provide(apt_kernel(id, suite), Cache.default())
    options = "-accel tcg -cpu max -nodefaults -no-user-config -display none -no-reboot -m 512M"
    command = ["qemu-system-x86_64", *options.split(), "-serial", "stdio"]
    command += ["-kernel", str(image.boot), "-append", "console=ttyS0 panic=-1"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert f"Linux version {image.release} ".encode() in done.stdout
    assert b"Unable to mount root fs" in done.stdout
