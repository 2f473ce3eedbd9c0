"""Tasks that build what runs in the guest, and remove it; and git's hook."""

import shutil
from pathlib import Path

from invoke.context import Context

from bpfmatrix.cli.tasks.common import bpfmatrix_task, progress
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = ["clean", "ebpf", "hooks_install", "initramfs", "test_binaries"]


@bpfmatrix_task()
def ebpf(c: Context) -> None:
    """Build the eBPF objects."""
    from bpfmatrix.cli.listings import print_objects  # noqa: PLC0415
    from bpfmatrix.payload import ebpf as ebpf_build  # noqa: PLC0415

    project = Project.load()
    print_objects(project, ebpf_build.objects(project, ask_make=True))


@bpfmatrix_task()
def test_binaries(c: Context, arch: str = "") -> None:  # noqa: PT028 - no test
    """Build the test binaries, static, one for each Go package."""
    from bpfmatrix.cli.listings import print_built  # noqa: PLC0415
    from bpfmatrix.payload import go  # noqa: PLC0415

    project = Project.load()
    if arch and arch not in ARCHITECTURES:
        raise UsageError(f"--arch {arch}: expected one of {', '.join(ARCHITECTURES)}")
    built = go.build_tests(project, arch or project.config.defaults.arch, progress)
    print_built(project, built)


@bpfmatrix_task()
def initramfs(c: Context, kernel: str, output: str = "") -> None:
    """Write the initramfs that a kernel is booted with, and print what is in it."""
    from bpfmatrix import kernels  # noqa: PLC0415
    from bpfmatrix.cli.listings import print_archive  # noqa: PLC0415
    from bpfmatrix.guest import busybox  # noqa: PLC0415
    from bpfmatrix.guest import initramfs as archives  # noqa: PLC0415

    project = Project.load()
    settings = project.config.kernel(kernel)
    image, _ = kernels.provide(settings, project.cache, progress)
    program = busybox.executable(settings.arch, project.cache, progress)
    archive = archives.build(image, program, settings.modules, project.cache)
    path = Path(output) if output else project.state / f"initramfs-{kernel}.cpio"
    path.write_bytes(archive)
    print_archive(project, path, archive)


@bpfmatrix_task()
def clean(c: Context) -> None:
    """Remove what was built and what came of runs; fetched kernels stay (kernels.prune)."""
    from bpfmatrix.payload import ebpf as ebpf_build  # noqa: PLC0415

    project = Project.load()
    ebpf_build.clean(project)
    shutil.rmtree(project.state, ignore_errors=True)
    print("removed .bpfmatrix and the eBPF objects")


@bpfmatrix_task(name="install")
def hooks_install(c: Context) -> None:
    """Let git run `nox -s pre-push` before each push; a hook that is there is kept and called."""
    from bpfmatrix.cli.hooks import install  # noqa: PLC0415

    hook, kept = install(Project.load())
    print(f"installed {hook}")
    if kept:
        print(f"the hook that was there is {kept.name} now, and is called first")
