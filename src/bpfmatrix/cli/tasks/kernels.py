"""The tasks `kernels.*`: what there is, fetching, building and removing it."""

from pathlib import Path
from typing import Any

from invoke.context import Context

from bpfmatrix.cli.tasks.common import bpfmatrix_task, progress
from bpfmatrix.config.project import Project

__all__ = [
    "kernels_build",
    "kernels_fetch",
    "kernels_list",
    "kernels_prune",
    "kernels_search",
    "kernels_update",
]

_UNUSED_SECONDS = 24 * 3600
# Those of one kernel are some 400 MB to fetch again.
_UNUSED_SYMBOLS_SECONDS = 14 * 24 * 3600


@bpfmatrix_task(name="list")
def kernels_list(c: Context, refresh: bool = False, json: bool = False) -> None:
    """List the kernels of kernels.yaml: source, newest available, what is cached."""
    from bpfmatrix import kernels  # noqa: PLC0415
    from bpfmatrix.cli.listings import print_kernels  # noqa: PLC0415

    project = Project.load()
    if refresh:
        kernels.refresh(project.config, project.cache, progress)
    print_kernels(project, as_json=json)


@bpfmatrix_task(name="fetch")
def kernels_fetch(c: Context, kernel: str = "", warm: bool = False) -> None:
    """Fetch one kernel, or those of the matrix, if they are not cached."""
    from bpfmatrix import kernels  # noqa: PLC0415

    project = Project.load()
    for id in [kernel] if kernel else project.config.matrix_ids:
        image, cached = kernels.provide(project.config.kernel(id), project.cache, progress)
        print(f"{id:<10} {image.description}  {'cached' if cached else 'fetched'}")
    if warm:
        from bpfmatrix.cli.console import LiveConsole  # noqa: PLC0415
        from bpfmatrix.session.templates import warm as make_template  # noqa: PLC0415

        for id in [kernel] if kernel else project.config.matrix_ids:
            with LiveConsole([id]) as console:
                template, made = make_template(project, id, console)
            size = template.bytes_on_disk / 1e6
            print(f"{id:<10} template of {size:.0f} MB  {'made' if made else 'cached'}")


@bpfmatrix_task(name="update")
def kernels_update(c: Context, kernel: str = "") -> None:
    """Fetch the newest release of one series, or of those of the matrix."""
    from bpfmatrix import kernels  # noqa: PLC0415

    project = Project.load()
    for id in [kernel] if kernel else project.config.matrix_ids:
        settings = project.config.kernel(id)
        before = kernels.cached(settings, project.cache)
        image = kernels.update(settings, project.cache, progress)
        same = before is not None and before.digest == image.digest
        print(f"{id:<10} {image.description}  {'still the newest' if same else 'new'}")


@bpfmatrix_task(name="search", positional=["text"])
def kernels_search(c: Context, text: str, json: bool = False) -> None:
    """List the kernel packages that the sources offer, with TEXT in their name or version."""
    from bpfmatrix import kernels  # noqa: PLC0415
    from bpfmatrix.cli.listings import print_offers  # noqa: PLC0415

    project = Project.load()
    print_offers(kernels.search(project.config, project.cache, text, progress), as_json=json)


@bpfmatrix_task(name="build", positional=["version"], iterable=["config"])
def kernels_build(
    c: Context,
    version: str,
    from_: str = "",
    config: Any = None,
    debug: bool = False,
    arch: str = "",
    url: str = "",
    keyring: str = "",
    sha256: str = "",
    suite: str = "",
) -> None:
    """Build a kernel from source with the fragments of ci-kernels/, into ci-kernels/VERSION.

    A kernel of kernels.yaml that is called so and has `source: build` gives the defaults.
    """
    from bpfmatrix.cli.listings import print_kernel_build  # noqa: PLC0415
    from bpfmatrix.cli.progress_bar import shown  # noqa: PLC0415
    from bpfmatrix.kernels import build  # noqa: PLC0415

    project, here = Project.load(), Path.cwd()
    given = {
        "from": from_ if from_ in ("", "apt", "kernel.org") else str(here / from_),
        "config": [here / path for path in config or ()],
        "debug": debug,
        "url": url,
        "keyring": here / keyring if keyring else None,
        "sha256": sha256,
        "suite": suite,
    }
    source, for_arch = build.build_source(project.config, version, given, arch)
    with shown() as progress:
        built = build.build(source, for_arch, project.root, project.cache, progress)
    print_kernel_build(project, built, version)


@bpfmatrix_task(name="prune")
def kernels_prune(c: Context, all: bool = False) -> None:
    """Remove kernels that nothing points at, and what was prepared and not used for a day."""
    from bpfmatrix import kernels  # noqa: PLC0415
    from bpfmatrix.kernels import symbols  # noqa: PLC0415
    from bpfmatrix.vm import template  # noqa: PLC0415

    project = Project.load()
    unused = 0 if all else _UNUSED_SECONDS
    pruned = [
        *kernels.prune(project.cache, everything=all),
        *template.prune(project.cache, unused),
        *project.cache.prune_derived(unused),
        *symbols.prune(project.cache, 0 if all else _UNUSED_SYMBOLS_SECONDS),
    ]
    for item in pruned:
        print(f"removed {item.name} ({item.size_bytes / 1e6:.0f} MB)")
    total = sum(item.size_bytes for item in pruned)
    print(f"{total / 1e6:.0f} MB freed" if pruned else "nothing to remove")
