"""`nox -s installs`: the wheel, installed by uv and by pipx, tests a kernel without any network.

It needs unshare(1) of util-linux, and a kernel that lets it make a network namespace. The packages
that the wheel depends on are downloaded before. No Go, clang or cargo is on PATH.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributions import add_dependencies, build_sdist, build_wheel
from tests.installation import Installed
from tests.tool import REPOSITORY, ToolProject

# A user who is not root needs a user namespace too.
OFFLINE = ("unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",)))
INSTALLERS = {
    "uv": ("-m", "uv", "tool", "install", "--offline", "--no-index", "--find-links"),
    "pipx": ("-m", "pipx", "install", "--backend", "pip", "--pip-args"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, for this host's guests, and all packages that it depends on."""
    folder = tmp_path_factory.mktemp("wheels")
    wheel = build_wheel(
        build_sdist(tmp_path_factory.mktemp("sdist")),
        tmp_path_factory.mktemp("wheel"),
        (os.uname().machine,),
        ("libbpf", "cilium-ebpf"),
    )
    # pipx installs a pip of its own.
    add_dependencies(wheel, folder, "pip")
    return folder


@pytest.mark.parametrize("installer", INSTALLERS)
def test_from_an_empty_folder_to_a_green_kernel(
    house: Path, project: ToolProject, tmp_path: Path, installer: str
) -> None:
    # So that the kernel is in the cache.
    done, _ = project.run(project.script("passes", "exit 0"))
    assert done.status == 0, done.output
    [wheel] = house.glob("bpfmatrix-*.whl")
    houses = str(house) if installer == "uv" else f"--no-index --find-links {house}"
    env = {
        **{f"UV_{name}_DIR": str(tmp_path / name) for name in ("TOOL", "TOOL_BIN", "CACHE")},
        "PIPX_HOME": str(tmp_path / "TOOL"),
        "PIPX_BIN_DIR": str(tmp_path / "TOOL_BIN"),
    }
    command = [*OFFLINE, sys.executable, *INSTALLERS[installer], houses, str(wheel)]
    subprocess.run(command, check=True, env=os.environ | env)
    user = Installed.with_programs(tmp_path / "TOOL_BIN", tmp_path / "user", OFFLINE)
    assert user.run("bpfmatrix", "--version").startswith("bpfmatrix ")
    subprocess.run(
        ("make", "-C", REPOSITORY / "ebpf", "ringbuf_events.bpf.o"), check=True, capture_output=True
    )
    objects = user.project / "build"
    objects.mkdir()
    (objects / "ringbuf_events.bpf.o").write_bytes(
        (REPOSITORY / "ebpf/ringbuf_events.bpf.o").read_bytes()
    )
    print(user.run("bpfmatrix", "init"))
    print(user.run("bpfmatrix", "verify", "build", "--kernel", "6.1"))
    (user.project / "kernels.yaml").unlink()
    user.declare()
    print(user.run("bpfmatrix", "run", "--kernel", "6.1"))
    print(user.run("bpfmatrix", "report"))
