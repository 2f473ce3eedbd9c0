"""The tasks `kernels.*`: what kernels there are, fetching, building and removing them."""

from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task, progress
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import UsageError
from bpfmatrix.host.front_end import command

if TYPE_CHECKING:
    from bpfmatrix.config.project import Project

__all__ = ["archive", "build", "fetch", "list_kernels", "prune", "push", "search", "update"]

take_words("kernels.archive", options.MIRROR)
take_words("kernels.fetch", options.KERNEL)
take_words("kernels.push", options.IDS)
take_words("kernels.update", options.KERNEL)

_UNUSED_SECONDS = 24 * 3600
# The symbols of one kernel are some 400 MB to fetch again.
_UNUSED_SYMBOLS_SECONDS = 14 * 24 * 3600

_ONE_OR_MATRIX = options.KERNEL.with_help(
    "The id of a kernel in kernels.yaml, such as 6.1. Default: each kernel of the matrix."
)

_IMAGE = options.ROOTFS.with_help(
    "The image whose name is resolved again. Default: that of payload.rootfs in kernels.yaml."
)


@option_task(options.REFRESH, options.JSON, name="list")
def list_kernels(values: Values) -> None:
    """List the kernels of kernels.yaml: source, newest release, what is cached."""
    from bpfmatrix import kernels
    from bpfmatrix.cli.kernels_output import print_kernels
    from bpfmatrix.config.project import Project

    project = Project.load()
    if values[options.REFRESH]:
        kernels.refresh(project.config, project.cache, progress)
    print_kernels(project, as_json=values[options.JSON])


@option_task(_ONE_OR_MATRIX, options.WARM)
def fetch(values: Values) -> None:
    """Fetch one kernel, or the kernels of the matrix, if they are not cached."""
    from bpfmatrix import kernels
    from bpfmatrix.cli.console import say
    from bpfmatrix.config.project import Project

    project = Project.load()
    ids = _one_or_matrix(project, values)
    for id in ids:
        image, cached = kernels.provide(project.config.kernel(id), project.cache, progress)
        registry = f" from {image.provenance.registry}" if image.provenance.registry else ""
        say(f"{id:<10} {image.description}  {'cached' if cached else f'fetched{registry}'}")
    if values[options.WARM]:
        for id in ids:
            _make_template(project, id)


def _make_template(project: "Project", id: str) -> None:
    from bpfmatrix.cli.console import LiveConsole, say
    from bpfmatrix.cli.values import declared_options
    from bpfmatrix.session.templates import warm

    with LiveConsole([id]) as console:
        template, made = warm(project, id, declared_options(project), console)
    size = template.bytes_on_disk / 1e6
    say(f"{id:<10} template of {size:.0f} MB  {'made' if made else 'cached'}")


@option_task(_ONE_OR_MATRIX, _IMAGE)
def update(values: Values) -> int:
    """Fetch the newest release of one series, or of each, and pin it in kernels.lock.

    The image of --rootfs is fetched again, too.
    """
    from bpfmatrix.cli.kernels_output import update_kernels, update_root
    from bpfmatrix.config.project import Project

    project = Project.load()
    ids = _one_or_matrix(project, values)
    status = update_kernels(project, ids, progress, every=not values[options.KERNEL])
    update_root(project, ids, values[_IMAGE], progress)
    return status


def _one_or_matrix(project: "Project", values: Values) -> list[str]:
    kernel = values[options.KERNEL]
    ids = [kernel] if kernel else project.config.matrix_ids
    return list(dict.fromkeys(project.config.kernel(id).plain.id for id in ids))


@option_task(options.TEXT, options.JSON)
def search(values: Values) -> None:
    """List the kernel packages that the sources offer, with TEXT in their name or version."""
    from bpfmatrix import kernels
    from bpfmatrix.cli.kernels_output import print_offers
    from bpfmatrix.config.project import Project

    project, text = Project.load(), values[options.TEXT]
    offers = kernels.search(project.config, project.cache, text, progress)
    print_offers(offers, as_json=values[options.JSON])


@option_task(
    options.VERSION,
    options.FROM,
    options.CONFIG,
    options.DEBUG,
    options.ARCH,
    options.URL,
    options.KEYRING,
    options.SHA256,
    options.SUITE,
)
def build(values: Values) -> None:
    """Build a kernel from source with the fragments of ci-kernels/, into ci-kernels/VERSION.

    If kernels.yaml has a kernel with this id and `source: build`, its keys are the defaults.
    """
    from bpfmatrix.cli.kernels_output import print_kernel_build
    from bpfmatrix.cli.progress_bar import shown
    from bpfmatrix.config.project import Project
    from bpfmatrix.kernels import build

    project, here, version = Project.load(), Path.cwd(), values[options.VERSION]
    source, keyring = values[options.FROM] or "", values[options.KEYRING]
    given = {
        "from": source if source in ("", "apt", "kernel.org") else str(here / source),
        "config": [here / path for path in values[options.CONFIG]],
        "debug": values[options.DEBUG],
        "url": values[options.URL],
        "keyring": here / keyring if keyring else None,
        "sha256": values[options.SHA256],
        "suite": values[options.SUITE],
    }
    chosen, arch = build.build_source(project.config, version, given, values[options.ARCH] or "")
    with shown() as report:
        built = build.build(chosen, arch, project.root, project.cache, report)
    print_kernel_build(project, built, version)


@option_task(options.MIRROR, options.SECURITY, options.OLD_STATE)
def archive(values: Values) -> None:
    """Set the mirror of Debian that this user's kernels come from, or show which one it is."""
    from bpfmatrix.cli.archive import set_archive, show_archives
    from bpfmatrix.config import kernels_yaml
    from bpfmatrix.config.project import Project

    root = Project.root_above(Path.cwd())
    project = Project.load(root) if kernels_yaml.exists_in(root) else None
    if urls := values[options.MIRROR]:
        security, stale = values[options.SECURITY], values[options.OLD_STATE]
        set_archive(urls, security, stale, project, progress)
    elif values[options.SECURITY] or values[options.OLD_STATE]:
        raise UsageError(
            "--security and --old-state are about a mirror, and none is named",
            f"Name it, as in `{command('kernels.archive')} http://mirror.example.org/debian`.",
        )
    else:
        show_archives(project)


@option_task(options.IDS, options.TO, options.SIGN, options.KEY)
def push(values: Values) -> None:
    """Publish kernels in a container registry, for other projects, hosts and CI.

    The kernels are the words after the task, as in `kernels.push 6.1 6.12 --to oci://HOST/NAME`.
    Those that are not cached are fetched first.
    """
    from bpfmatrix.cli.kernels_output import push_kernels
    from bpfmatrix.config.project import Project
    from bpfmatrix.errors import UsageError
    from bpfmatrix.kernels.pinned import registry_of
    from bpfmatrix.oci.reference import Reference

    project = Project.load()
    ids = values[options.IDS] or tuple(project.config.matrix_ids)
    target = values[options.TO]
    if target is None:
        name = registry_of(project.config.kernel(ids[0]))
        if name is None:
            raise UsageError(
                "kernels.push: no repository is named",
                "Add --to oci://registry.example/kernels, or `registry` to kernels.yaml.",
            )
        target = Reference.parse(name)
    push_kernels(
        project,
        list(dict.fromkeys(project.config.kernel(id).plain.id for id in ids)),
        *(target, values[options.SIGN], values[options.KEY], progress),
    )


@option_task(options.ALL)
def prune(values: Values) -> None:
    """Remove kernels that nothing refers to, and derived files that were not used for a day."""
    from bpfmatrix import kernels
    from bpfmatrix.cli.console import say
    from bpfmatrix.config.project import Project
    from bpfmatrix.kernels import symbols
    from bpfmatrix.vm import template

    cache, everything = Project.load().cache, values[options.ALL]
    unused = 0 if everything else _UNUSED_SECONDS
    pruned = [
        *kernels.prune(cache, everything=everything),
        *template.prune(cache, unused),
        *cache.prune_derived(unused),
        *symbols.prune(cache, 0 if everything else _UNUSED_SYMBOLS_SECONDS),
    ]
    for item in pruned:
        say(f"removed {item.name} ({item.size_bytes / 1e6:.0f} MB)")
    total = sum(item.size_bytes for item in pruned)
    say(f"{total / 1e6:.0f} MB freed" if pruned else "nothing to remove")
