"""Images that a user placed, in KERN_DIR and in ci-kernels/, and which one goes before which."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels import KernelImage
from tests.kernels.conftest import apt_kernel
from tests.kernels.image_folders import declared, put, unreachable
from tests.tool import REPOSITORY, ToolProject, by_name


def test_kern_dir_goes_first(
    cache: Cache, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "images/6.1/vmlinuz", "6.1.1")
    put(tmp_path / "others/6.1/vmlinuz", "6.1.99")
    kernel, remote = declared(root, "6.1"), unreachable(root, "6.1")
    assert kernels.provide(kernel, cache)[0].release == "6.1.1"
    monkeypatch.setenv("KERN_DIR", str(tmp_path / "others"))
    for each in (kernel, remote):
        image, _ = kernels.provide(each, cache)
        assert image.release == "6.1.99"
        assert image.provenance.source == f"directory {tmp_path}/others/6.1/vmlinuz"
        assert kernels.cached(each, cache) == image
        assert kernels.update(each, cache).release == "6.1.99"
    # What it does not have comes from where it comes from otherwise.
    put(root / "images/6.2/vmlinuz", "6.2.1")
    assert kernels.provide(declared(root, "6.2"), cache)[0].release == "6.2.1"
    # Relative to the working directory, with a file that is for any kernel.
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "build/bzImage", "6.2.7")
    monkeypatch.setenv("KERN_DIR", "build/")
    assert kernels.provide(declared(root, "6.2"), cache)[0].release == "6.2.7"
    with pytest.raises(BpfmatrixError, match=r"build/bzImage is release 6\.2\.7, and not 6\.1"):
        kernels.provide(remote, cache)
    monkeypatch.setenv("KERN_DIR", "nowhere")
    with pytest.raises(UsageError, match="KERN_DIR names nowhere, which does not exist"):
        kernels.provide(kernel, cache)
    monkeypatch.setenv("KERN_DIR", "")
    assert kernels.provide(kernel, cache)[0].release == "6.1.1"


def test_a_hand_placed_image_needs_no_network(cache: Cache, root: Path) -> None:
    kernel = unreachable(root, "6.1")
    put(root / "ci-kernels/vmlinuz", "6.1.5")  # for no kernel in particular
    with pytest.raises(KernelUnavailableError, match="can't be reached and no kernel"):
        kernels.provide(kernel, cache)
    put(root / "ci-kernels/6.1/vmlinuz", "6.1.6")
    image, _ = kernels.provide(kernel, cache)
    assert image.release == "6.1.6"
    assert image.provenance.source == "directory ci-kernels/6.1/vmlinuz"
    assert kernels.provide(kernel, cache) == (image, True)
    # Asked for the newest, the source is asked.
    with pytest.raises(KernelUnavailableError, match="can't be reached"):
        kernels.update(kernel, cache)


@pytest.fixture(scope="session")
def real() -> KernelImage:
    """Debian's 6.1, from the user's own cache."""
    return kernels.provide(apt_kernel("6.1", "bookworm-security"), Cache.default())[0]


def put_real(real: KernelImage, folder: Path) -> Path:
    assert real.modules is not None
    folder.mkdir(parents=True)
    shutil.copytree(real.modules, folder / "lib/modules" / real.release)
    return Path(shutil.copy(real.vmlinuz, folder / "vmlinuz"))


@pytest.mark.integration
def test_run_image_and_kern_dir(real: KernelImage, project: ToolProject, tmp_path: Path) -> None:
    file = put_real(real, tmp_path / "others/6.1")
    script = project.script("release", "uname -r")
    own = {"BPFMATRIX_CACHE": str(tmp_path / "cache")}
    done = project.invoke("run", "--image", str(file), "--binary", script, env=own)
    assert done.status == 0, done.output
    run = project.result(real.version)
    assert run.release == real.release
    assert by_name(run)["release"].outcome == "passed"
    assert f"directory {file}" in done.output
    done = project.invoke(
        *("run", "--kernel", "6.1", "--binary", script),
        env={**own, "KERN_DIR": str(tmp_path / "others")},
    )
    assert done.status == 0, done.output
    assert run.provenance == project.result("6.1").provenance
    done = project.invoke("run", "--binary", script)
    assert done.status == 2
    assert "error: no kernel is named" in done.output


@pytest.mark.integration
def test_the_older_command(real: KernelImage, project: ToolProject, tmp_path: Path) -> None:
    put_real(real, tmp_path / "others/6.1")
    script = project.script("release", "uname -r")
    (project.root / "support").mkdir()
    command = Path(shutil.copy(REPOSITORY / "support/run-tests.sh", project.root / "support"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [command, "6.1", "--binary", script],
        cwd=tmp_path,
        env={**os.environ, "KERN_DIR": "others", "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "directory " in done.stdout
    assert project.result("6.1").release == real.release
