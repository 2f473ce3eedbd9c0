"""The tasks that build what runs in the guest, write it to a file to look at, and remove it."""

import shutil

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task, progress
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import BpfmatrixError

__all__ = ["clean", "ebpf", "initramfs", "test_binaries"]


@option_task()
def ebpf(values: Values) -> None:
    """Build the eBPF objects, and show what each needs of a kernel."""
    from bpfmatrix.cli.payload_output import print_objects
    from bpfmatrix.config.project import Project
    from bpfmatrix.payload import ebpf as ebpf_build

    project = Project.load()
    print_objects(project, ebpf_build.objects(project, ask_make=True))


@option_task(options.ARCH, name="test-binaries")
def test_binaries(values: Values) -> None:
    """Build the test binaries, static, one for each Go package."""
    from bpfmatrix.cli.payload_output import print_test_binaries
    from bpfmatrix.config.project import Project
    from bpfmatrix.payload import go

    project = Project.load()
    arch = values[options.ARCH] or project.config.defaults.arch
    print_test_binaries(project, go.build_tests(project, arch, progress))


@option_task(options.ONE_KERNEL, options.OUTPUT)
def initramfs(values: Values) -> None:
    """Write the initramfs that a kernel is booted with, and list what is in it."""
    from bpfmatrix import kernels
    from bpfmatrix.cli.payload_output import print_initramfs
    from bpfmatrix.config.project import Project
    from bpfmatrix.guest import busybox
    from bpfmatrix.guest import initramfs as archives

    project, id = Project.load(), values[options.ONE_KERNEL]
    kernel = project.config.kernel(id)
    image, _ = kernels.provide(kernel, project.cache, progress)
    program = busybox.executable(kernel.arch, project.cache, progress)
    archive = archives.build(image, program, kernel.loaded_modules, project.cache)
    path = values[options.OUTPUT] or project.state / f"initramfs-{id}.cpio"
    try:
        path.write_bytes(archive)
    except OSError as error:
        raise BpfmatrixError(f"--output {path}: {error.strerror}") from None
    print_initramfs(project, path, archive)


@option_task()
def clean(values: Values) -> None:
    """Remove built objects, test binaries and results; `kernels.prune` removes kernels."""
    from bpfmatrix.cli.console import say
    from bpfmatrix.config.project import Project
    from bpfmatrix.payload import ebpf as ebpf_build

    project = Project.load()
    ebpf_build.clean(project)
    shutil.rmtree(project.state, ignore_errors=True)
    say("removed .bpfmatrix and the eBPF objects")
