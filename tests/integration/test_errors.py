"""Mistakes of a user, each answered by one clear sentence, and before the boot if possible."""

import shutil
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.project import Project
from bpfmatrix.host.cache import Cache
from bpfmatrix.results.outcome import Outcome
from tests.goproject import GoModule
from tests.tool import ToolProject, qemus_of

pytestmark = pytest.mark.integration


def test_a_dynamic_binary_is_refused_before_the_boot(project: ToolProject) -> None:
    done = project.invoke("run", "--kernel", "6.1", "--binary", "/bin/ls")
    assert done.status == 1
    assert "error: /bin/ls is dynamically linked (needs /lib64/ld-linux-x86-64.so.2)" in done.output
    assert "-static (C), or run with --rootfs host" in done.output
    assert "boot" not in done.output


def test_a_pattern_that_matches_nothing_is_an_error(
    project: ToolProject, go_module: GoModule
) -> None:
    done, run = project.run(project.script("x", "true"), options=["--run", "nothing"])
    assert done.status == 1
    assert run.outcome is Outcome.ERROR
    assert "--run 'nothing' matches none of: x" in done.output
    # The tests of a Go binary are known only in the guest.
    done, run = project.run(str(go_module.binary()), options=["--run", "TestNothing"])
    assert done.status == 1
    assert run.outcome is Outcome.ERROR
    assert "no test ran: --run 'TestNothing' matches none" in done.output


def test_an_initramfs_that_can_not_be_written_is_an_error(
    project: ToolProject, tmp_path: Path
) -> None:
    done = project.invoke("initramfs", "6.1", "--output", str(tmp_path / "none" / "x"))
    assert done.status == 1
    assert f"error: --output {tmp_path / 'none' / 'x'}: No such file or directory" in done.output
    assert "Traceback" not in done.output


def test_the_message_of_qemu_is_quoted(project: ToolProject) -> None:
    project.configure(qemu={"extra_args": ["-device", "no-such-device"]})
    done, run = project.run(project.script("x", "true"))
    assert done.status == 1
    assert run.outcome is Outcome.ERROR
    assert "'no-such-device' is not a valid device model name" in run.reason
    assert "qemu: in kernels.yaml" in done.output


def test_a_module_that_the_kernel_lacks_is_named(project: ToolProject) -> None:
    project.configure(modules=["no_such_module"])
    done, run = project.run(project.script("x", "true"))
    assert done.status == 1
    assert run.outcome is Outcome.ERROR
    assert "has no module 'no_such_module', neither loadable nor built in" in done.output
    assert "Remove it from `modules:` in kernels.yaml." in done.output


def test_modules_are_loaded_and_kernel_arguments_passed(project: ToolProject) -> None:
    project.configure(modules=["xt_pkttype"], kernel_args=["bpfmatrix.word=a b"])
    script = project.script("x", "cat /proc/cmdline; grep -q ^xt_pkttype /proc/modules")
    done, run = project.run(script)
    assert done.status == 0, done.output
    assert 'bpfmatrix.word="a b"' in run.tests[0].output


def test_a_missing_tool_is_named_with_its_package(project: ToolProject, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("busybox", "setpriv", "make", "mkfs.ext4"):
        found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
        assert found is not None
        (folder / name).symlink_to(found)
    script = project.script("x", "true")
    done = project.invoke("run", "--kernel", "6.1", "--binary", script, env={"PATH": str(folder)})
    assert done.status == 1
    assert "qemu-system-x86_64 is not installed" in done.output
    assert "Install qemu-system-x86 (on Debian), or run ./bootstrap." in done.output


def test_a_damaged_image_is_found_and_fetched_again(project: ToolProject, own_cache: Path) -> None:
    kernel = Project.load(project.root).config.kernel("6.1")
    image, _ = kernels.provide(kernel, Cache(own_cache))
    boot = image.boot
    damaged = bytearray(boot.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    boot.unlink()  # a hard link to a file of the user's cache
    boot.write_bytes(damaged)
    script = project.script("x", "true")
    words = ("run", "--kernel", "6.1", "--binary", script)
    done = project.invoke(*words, env={"BPFMATRIX_CACHE": str(own_cache)})
    assert done.status == 0, done.output
    assert "fetched" in done.output
    assert project.result().outcome is Outcome.PASSED
    again = kernels.cached(kernel, Cache(own_cache))
    assert again is not None
    again.verify()
    assert qemus_of(project) == []
