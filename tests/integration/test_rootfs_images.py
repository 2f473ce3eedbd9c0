"""Tests whose root is a container image, in the guests of real kernels."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bpfmatrix.cli.kernels_output import update_root
from bpfmatrix.cli.run import run_chosen
from bpfmatrix.cli.run_choice import TESTS
from bpfmatrix.config.project import Project
from bpfmatrix.guest import busybox
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import silent
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.virtiofs.shares import parse_options
from tests.oci.registry import Entry, Registry, layer, special
from tests.rootfs.layouts import Layout
from tests.tool import ToolProject, by_name

pytestmark = pytest.mark.integration


def bash(project: ToolProject, name: str, text: str) -> str:
    path = project.root / name
    path.write_text(f"#!/bin/bash\nset -ex\n{text}\n")
    path.chmod(0o755)
    return name


SCRIPT = """
words=(bash "$BASH_VERSION")
[[ ${#words[@]} = 2 && $FROM = image && $HOME = /root && $PATH = /usr/bin:* ]]
[ "$(python3 -c 'import re; print(re.sub("a", "b", "a"))')" = b ]
# Packages that talk to the kernel.
ip link add veth-a type dummy
ip -o link show veth-a
nft add table inet filter
nft list tables | grep -qx 'table inet filter'
# Owners, modes and capabilities are those of the image.
[ "$(stat -c %a:%u:%g /bin/su)" = 4755:0:0 ]
[ "$(stat -c %a:%u:%g /usr/local/bin/setgid)" = 2755:0:42 ]
[ "$(stat -c %a:%u:%g /root)" = 700:0:0 ]
getcap /usr/local/bin/ping-copy | grep -qx '.*cap_net_raw=ep'
[ "$(id -un 65534)" = nobody ]
# What is written stays in the guest's memory.
[ ! -e /etc/new ]
echo new >/etc/new
rm -r /usr/lib/python3.11
# The guest's own file systems are there, and the root is a real one.
[ -d /sys/fs/bpf ]
[ -d /proc/$$ ]
[ -e /boot/config-$(uname -r) ]
unshare --user --map-root-user id -u
mkdir /mine
unshare --mount bash -c 'mount -t tmpfs mine /mine && touch /mine/a'
[ ! -e /mine/a ]
"""


@pytest.mark.projects
@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_a_debian_runs_tests(project: ToolProject, debian: Layout, kernel: str) -> None:
    project.configure([kernel], modules=["nf_tables", "dummy"])
    bash(project, "script", SCRIPT)
    options = ("--rootfs", str(debian.folder))
    for more in (["--cold"], [], []):
        done, run = project.run("script", kernel=kernel, options=(*options, *more))
        assert run.outcome is Outcome.PASSED, done.output
        assert run.start == ("cold" if more else "warm")
        assert f"{debian.folder}@sha256:" in done.output


@pytest.mark.projects
def test_executables_are_checked_against_the_image(project: ToolProject, debian: Layout) -> None:
    words = ("run", "--kernel", "6.1", "--rootfs", str(debian.folder), "--binary")
    done = project.invoke(*words, "/bin/true")
    assert done.status == 0, done.output
    missing = project.root / "missing"
    missing.write_text("#!/opt/python\n")
    missing.chmod(0o755)
    done = project.invoke(*words, "missing")
    assert done.status == 1
    assert "missing needs /opt/python, which " in done.output
    assert f"{debian.folder}@sha256:" in done.output


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as running:
        yield running


def small(arch: str, text: str) -> list[Entry]:
    """Return the entries of a root with busybox."""
    program = tarfile.TarInfo("bin/busybox")
    data = busybox.executable(arch, Cache.default()).read_bytes()
    program.mode, program.size = 0o755, len(data)
    return [
        (program, data),
        special("bin/sh", tarfile.SYMTYPE, "busybox"),
        special("bin/cat", tarfile.SYMTYPE, "busybox"),
        ("etc/text", text.encode()),
    ]


def test_an_image_of_a_registry_is_there_without_a_network(
    project: ToolProject, registry: Registry, tmp_path: Path
) -> None:
    image = registry.image("small", "1", [layer(small("x86_64", "first"))])
    name = f"oci:{registry.host}/small:1"
    project.script("script", '[ "$(cat /etc/text)" = first ]')
    shared = tmp_path / "shared"
    shared.mkdir()
    done, run = project.run("script", options=("--rootfs", name))
    assert run.outcome is Outcome.PASSED, done.output
    assert f"{registry.host}/small:1@{image.digest[:19]}" in done.output
    # The tag means another image now, but this host has resolved it.
    registry.image("small", "1", [layer(small("x86_64", "second"))])
    registry.stop()
    project.script("script", f'[ "$(cat /etc/text)" = first ]; echo here >{shared}/file')
    options = ("--rootfs", name, "--share", f"{shared}:rw")
    done, run = project.run("script", options=options)
    assert run.outcome is Outcome.PASSED, done.output
    assert (shared / "file").read_text() == "here\n"
    done = project.invoke("shell", "--kernel", "6.1", "--rootfs", name, "--", "cat", "/etc/text")
    assert (done.output, done.status) == ("first", 0)
    done = project.invoke("shell", "--kernel", "6.1", "--rootfs", f"{name}0", "--", "true")
    assert done.status == 1
    assert f"the image {registry.host}/small:10 is not in the cache, and " in done.output


def test_the_name_of_an_image_is_resolved_again(
    project: ToolProject, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    first = registry.image("small", "1", [layer(small("x86_64", "first"))])
    project.configure(payload={"ebpf": None, "go": None, "rootfs": f"oci:{registry.host}/small:1"})

    def said(typed: str | None = None) -> str:
        update_root(Project.load(project.root), ["6.1"], typed, silent)
        return capsys.readouterr().out

    name = f"{registry.host}/small:1"
    assert said() == f"rootfs     {name}@{first.digest[:19]} (x86_64)  new\n"
    assert said() == f"rootfs     {name}@{first.digest[:19]} (x86_64)  still the newest\n"
    second = registry.image("small", "1", [layer(small("x86_64", "second"))])
    words = ("shell", "--kernel", "6.1", "--", "cat", "/etc/text")
    assert project.invoke(*words).output == "first"
    assert said(f"oci:{name}") == f"rootfs     {name}@{second.digest[:19]} (x86_64)  new\n"
    assert project.invoke(*words).output == "second"
    # Folders are always as they are.
    assert said("host") == ""


def test_each_architecture_has_its_own_image(project: ToolProject, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    images = [
        layout.image("", [layer(small(arch, arch))], name)
        for arch, name in (("x86_64", "amd64"), ("aarch64", "arm64"))
    ]
    layout.index("both", images)
    project.configure(["6.1", "6.1-arm64"])
    data = yaml.safe_load((project.root / "kernels.yaml").read_text())
    data["kernels"]["6.1-arm64"]["arch"] = "aarch64"
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(data))
    for kernel, arch in (("6.1", "x86_64"), ("6.1-arm64", "aarch64")):
        words = ("shell", "--kernel", kernel, "--rootfs", str(layout.folder))
        done = project.invoke(*words, "--", "cat", "/etc/text")
        assert (done.output, done.status) == (arch, 0)


def test_a_result_is_that_of_its_image(project: ToolProject, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    for text in ("one", "two"):
        layout.image(text, [layer(small("x86_64", text))])
    script = project.root / project.script("script", "cat /etc/text")

    def output_of(image: str) -> tuple[bool, str]:
        files = parse_options(f"{layout.folder}:{image}", [])
        options = RunOptions(binaries=(script,), files=files, cached=True)
        [run] = run_chosen(Project.load(project.root), ["6.1"], TESTS, options).runs
        assert run.outcome is Outcome.PASSED, run.reason
        assert run.rootfs.startswith(f"{layout.folder}:{image}@sha256:")
        return run.cached, by_name(run)["script"].output.strip()

    assert [output_of(image) for image in ("one", "two")] == [(False, "one"), (False, "two")]
    assert output_of("two")[0] is True
