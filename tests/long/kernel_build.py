"""A whole kernel, from a tarball in kernel.org's layout to a guest that runs it.

`nox -s kernel-build` runs it: see README.md. The sources are Debian's, and signed by a key made for
the test.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bpfmatrix.config.sources import BuildSource
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import silent
from bpfmatrix.kernels.build import existing, source_trees
from tests.kernels.kernelorg import KernelOrg
from tests.long.debug_with_source import stops_in_the_verifier
from tests.tool import ToolProject


@pytest.fixture
def org(tmp_path: Path, keyring: Path) -> Iterator[KernelOrg]:
    """A server that has the newest 6.1 of Debian as a release of its own."""
    cache = Cache.default()
    apt = BuildSource.model_validate({"version": "6.1", "from": "apt"})
    origin = source_trees.locate(apt, "x86_64", tmp_path, cache, silent)
    assert isinstance(origin, source_trees.Debian)
    served = KernelOrg(tmp_path / "org", key_home=keyring.parent)
    origin.fetch_tarball(tmp_path / "linux.tar.xz", cache, silent)
    served.put(origin.version, tmp_path / "linux.tar.xz")
    served.publish()
    served.start()
    yield served
    served.stop()
    # The source tree and the objects, some 4 GB: pytest would keep them if the test failed.
    shutil.rmtree(tmp_path / "project/ci-kernels")


def test_from_a_signed_tarball_to_a_guest(org: KernelOrg, keyring: Path, tmp_path: Path) -> None:
    project = ToolProject(tmp_path / "project")
    project.configure()
    build = {"version": "6.1", "url": org.url, "keyring": str(keyring)}
    file = project.root / "kernels.yaml"
    data = yaml.safe_load(file.read_text())
    data["kernels"] = {"built": {"source": {"build": build}}}
    data["payload"]["binaries"] = [
        project.script(
            "look.sh",
            "set -e\n"
            "test -s /sys/kernel/btf/vmlinux\n"
            "zcat /proc/config.gz | grep -q ^CONFIG_BPF_LSM=y\n"
            "grep -q bpf /sys/kernel/security/lsm || mount -t securityfs s /sys/kernel/security\n"
            "grep bpf /sys/kernel/security/lsm\n"
            "uname -r",
        )
    ]
    file.write_text(yaml.safe_dump(data))
    done = subprocess.run(
        project.command("run", "--kernel", "built"),
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built from kernel.org, signed by" in done.stdout
    source = BuildSource.model_validate(build)
    built = existing(source, "x86_64", project.root)
    assert built is not None
    for name in ("vmlinuz", "vmlinux", "config", "System.map", "build.json"):
        assert (built.folder / name).stat().st_size > 0
    assert built.folder == project.root / "ci-kernels/6.1"
    assert (project.root / f"ci-kernels/_build/linux-{built.version}/Makefile").exists()

    # Under gdb, with the source and the DWARF of this build.
    stops_in_the_verifier(project, "built")

    # A second time there is nothing to do.
    again = subprocess.run(
        project.command("kernels.build", "built"),
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    after = existing(source, "x86_64", project.root)
    assert after is not None
    assert after.seconds < built.seconds / 3
