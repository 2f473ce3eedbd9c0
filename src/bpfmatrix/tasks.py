"""The invoke tasks of a project with a kernels.yaml: its tasks.py imports `namespace`.

Each task turns what was typed into one call of the library, and that into an exit status.
"""

import functools
import inspect
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import invoke.collection
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from invoke.vendor.lexicon import Lexicon

from bpfmatrix.commandline import complain, kernel_ids, options, with_available
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.options import Options
from bpfmatrix.project import Project

__all__ = ["namespace"]

_HELP = {
    "kernel": "An id of kernels.yaml, such as 6.1.",
    "image": "A kernel's file that kernels.yaml does not name: vmlinuz, bzImage, Image, vmlinux.",
    "kernels": 'Ids and patterns of kernels.yaml: 5.10,6.1 or "6.*". Default: matrix.',
    "available": "Also all series that the apt suites of kernels.yaml have now.",
    "refresh": "Fetch the indexes of the sources before.",
    "run": "A regular expression: only the tests that match.",
    "binary": "An executable to run in place of the declared tests; may be given again.",
    "timeout": "The limit of each executable, such as 30s or 2m.",
    "jobs": "Machines at once. Default: one for each core.",
    "warm": "Also boot it once, and save that as the template of later runs.",
    "cold": "Boot the kernel, even if there is a template.",
    "json": "Print JSON.",
    "arch": "x86_64 or aarch64. Default: that of defaults in kernels.yaml.",
    "output": "Where to write it. Default: in .bpfmatrix.",
    "text": "What to look for.",
    "all": "Also those in use, and apt's indexes.",
    "version": "A release such as 5.4.276, or a series such as 6.1: the newest release of it.",
    "from_": "kernel.org (the default), apt (Debian's linux-source), or a folder with a tree.",
    "config": "A further fragment of options; may be given again.",
    "debug": "Add debug.config, and keep the debug information in vmlinux.",
    "url": "The address of a server with kernel.org's layout.",
    "keyring": "The keys that may sign kernel.org's checksums.",
    "sha256": "The checksum of the tarball, in place of a signed one.",
    "suite": "Debian's suite. Default: the first one that has the series.",
}


def _task(**more: Any) -> Callable[[Callable[..., None]], Any]:
    """Make an invoke task, which says what a user can mend in one or two sentences."""

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def reported(*arguments: Any, **options: Any) -> None:
            try:
                function(*arguments, **options)
            except BpfmatrixError as error:
                complain(error)
                raise Exit(code=error.exit_status) from None
            except KeyboardInterrupt:
                raise Exit(code=130) from None

        names = list(inspect.signature(function).parameters)[1:]
        return task(reported, help={name: _HELP[name] for name in names}, **more)

    return decorate


def _behind_dashes() -> tuple[str, ...]:
    # invoke keeps these words too, but joined to one string.
    words = sys.argv[1:]
    return tuple(words[words.index("--") + 1 :]) if "--" in words else ()


def _progress(text: str, fraction: float | None = None) -> None:
    # For tasks without a table of what goes on: each thing that is done, once.
    if _said[-1:] != [text]:
        _said.append(text)
        print(text, file=sys.stderr, flush=True)


_said: list[str] = []


@_task()
def doctor(c: Context) -> None:
    """Look at what this machine has: tools, accelerator, disk space, kernels."""
    from bpfmatrix.doctor import checks  # noqa: PLC0415 - here and below: `invoke -l` stays fast
    from bpfmatrix.listing import print_checks  # noqa: PLC0415

    if not print_checks(checks(Project.load())):
        raise Exit(code=1)


@_task(iterable=["binary"])
def run(
    c: Context,
    kernel: str = "",
    image: str = "",
    run: str | None = None,
    binary: Any = None,
    timeout: str | None = None,
    cold: bool = False,
) -> None:
    """Load and test the eBPF on one kernel. Words behind -- go to the executables."""
    if bool(kernel) == bool(image):
        raise UsageError("name the kernel, either by --kernel or by --image")
    asked = options(run, binary or (), timeout, _behind_dashes(), cold)
    project, id = Project.load(), kernel
    if image:
        project, id = project.with_image(Path(image))
    _run_on(project, [id], asked)


@_task(iterable=["binary"])
def matrix(
    c: Context,
    kernels: str | None = None,
    available: bool = False,
    run: str | None = None,
    binary: Any = None,
    timeout: str | None = None,
    cold: bool = False,
    jobs: int = 0,
) -> None:
    """Load and test the eBPF on many kernels, side by side, in one table."""
    project, default = Project.load(), None
    asked = options(run, binary or (), timeout, _behind_dashes(), cold)
    if available:
        project, default = with_available(project, kernels)
    _run_on(project, kernel_ids(project.config, kernels, default), asked, jobs or None)


def _run_on(project: Project, ids: list[str], asked: Options, jobs: int | None = None) -> None:
    from bpfmatrix import matrix as matrices  # noqa: PLC0415
    from bpfmatrix import results  # noqa: PLC0415

    status = results.exit_status(matrices.run(project, ids, asked, jobs))
    if status:
        raise Exit(code=status)


@_task()
def watch(c: Context, kernel: str, run: str | None = None, timeout: str | None = None) -> None:
    """Load and test the eBPF on one kernel at each save of a file, until Ctrl-C."""
    from bpfmatrix.watch import watch as run_at_each_save  # noqa: PLC0415

    run_at_each_save(Project.load(), kernel, options(run, (), timeout, _behind_dashes()))


@_task()
def ebpf(c: Context) -> None:
    """Build the eBPF objects."""
    from bpfmatrix import build  # noqa: PLC0415
    from bpfmatrix.listing import print_objects  # noqa: PLC0415

    project = Project.load()
    print_objects(project, build.objects(project, ask_make=True))


@_task()
def test_binaries(c: Context, arch: str = "") -> None:  # noqa: PT028 - no test
    """Build the test binaries, static, one for each Go package."""
    from bpfmatrix import build  # noqa: PLC0415
    from bpfmatrix.listing import print_built  # noqa: PLC0415

    project = Project.load()
    if arch and arch not in build.GOARCH:
        raise UsageError(f"--arch {arch}: expected one of {', '.join(build.GOARCH)}")
    built = build.go_tests(project, arch or project.config.defaults.arch, _progress)
    print_built(project, built)


@_task()
def initramfs(c: Context, kernel: str, output: str = "") -> None:
    """Write the initramfs that a kernel is booted with, and print what is in it."""
    from bpfmatrix import busybox, kernels  # noqa: PLC0415
    from bpfmatrix import initramfs as archives  # noqa: PLC0415
    from bpfmatrix.listing import print_archive  # noqa: PLC0415

    project = Project.load()
    settings = project.config.kernel(kernel)
    image, _ = kernels.provide(settings, project.cache, _progress)
    program = busybox.executable(settings.arch, project.cache, _progress)
    archive = archives.base(image, program, settings.modules)
    path = Path(output) if output else project.state / f"initramfs-{kernel}.cpio"
    path.write_bytes(archive)
    print_archive(project, path, archive)


@_task()
def clean(c: Context) -> None:
    """Remove what was built and what came of runs; fetched kernels stay (kernels.prune)."""
    from bpfmatrix.build import clean as clean_build  # noqa: PLC0415

    project = Project.load()
    clean_build(project)
    shutil.rmtree(project.state, ignore_errors=True)
    print("removed .bpfmatrix and the eBPF objects")


_UNUSED_SECONDS = 24 * 3600


@_task(name="install")
def hooks_install(c: Context) -> None:
    """Let git run `nox -s pre-push` before each push; a hook that is there is kept and called."""
    from bpfmatrix.hooks import install  # noqa: PLC0415

    hook, kept = install(Project.load())
    print(f"installed {hook}")
    if kept:
        print(f"the hook that was there is {kept.name} now, and is called first")


@_task(name="list")
def kernels_list(c: Context, refresh: bool = False, json: bool = False) -> None:
    """List the kernels of kernels.yaml: source, newest available, what is cached."""
    from bpfmatrix import kernels  # noqa: PLC0415
    from bpfmatrix.listing import print_kernels  # noqa: PLC0415

    project = Project.load()
    if refresh:
        kernels.refresh(project.config, project.cache, _progress)
    print_kernels(project, as_json=json)


@_task(name="fetch")
def kernels_fetch(c: Context, kernel: str = "", warm: bool = False) -> None:
    """Fetch one kernel, or those of the matrix, if they are not cached."""
    from bpfmatrix import kernels  # noqa: PLC0415

    project = Project.load()
    for id in [kernel] if kernel else project.config.matrix_ids:
        image, cached = kernels.provide(project.config.kernel(id), project.cache, _progress)
        print(f"{id:<10} {image.description}  {'cached' if cached else 'fetched'}")
    if warm:
        from bpfmatrix.matrix import warm as make_templates  # noqa: PLC0415

        ids = [kernel] if kernel else project.config.matrix_ids
        for id, template, made in make_templates(project, ids):
            size = template.bytes_on_disk / 1e6
            print(f"{id:<10} template of {size:.0f} MB  {'made' if made else 'cached'}")


@_task(name="update")
def kernels_update(c: Context, kernel: str = "") -> None:
    """Fetch the newest release of one series, or of those of the matrix."""
    from bpfmatrix import kernels  # noqa: PLC0415

    project = Project.load()
    for id in [kernel] if kernel else project.config.matrix_ids:
        settings = project.config.kernel(id)
        before = kernels.cached(settings, project.cache)
        image = kernels.update(settings, project.cache, _progress)
        same = before is not None and before.digest == image.digest
        print(f"{id:<10} {image.description}  {'still the newest' if same else 'new'}")


@_task(name="search", positional=["text"])
def kernels_search(c: Context, text: str, json: bool = False) -> None:
    """List the kernel packages that the sources offer, with TEXT in their name or version."""
    from bpfmatrix import kernels  # noqa: PLC0415
    from bpfmatrix.listing import print_offers  # noqa: PLC0415

    project = Project.load()
    print_offers(kernels.search(project.config, project.cache, text, _progress), as_json=json)


@_task(name="build", positional=["version"], iterable=["config"])
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
    from bpfmatrix.bar import shown  # noqa: PLC0415
    from bpfmatrix.kernels import building  # noqa: PLC0415
    from bpfmatrix.listing import print_kernel_build  # noqa: PLC0415

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
    source, for_arch = building.asked(project.config, version, given, arch)
    with shown() as progress:
        built = building.build(source, for_arch, project.root, project.cache, progress)
    print_kernel_build(project, built, version)


@_task(name="prune")
def kernels_prune(c: Context, all: bool = False) -> None:
    """Remove kernels that nothing points at, and what was prepared and not used for a day."""
    from bpfmatrix import kernels  # noqa: PLC0415
    from bpfmatrix.vm import template  # noqa: PLC0415

    project = Project.load()
    unused = 0 if all else _UNUSED_SECONDS
    pruned = [
        *kernels.prune(project.cache, everything=all),
        *template.prune(project.cache, unused),
        *project.cache.prune_made(unused),
    ]
    for item in pruned:
        print(f"removed {item.name} ({item.size_bytes / 1e6:.0f} MB)")
    total = sum(item.size_bytes for item in pruned)
    print(f"{total / 1e6:.0f} MB freed" if pruned else "nothing to remove")


class _InOrder(Lexicon):
    """Tasks that `invoke -l` lists in the order in which they were added, not by name."""

    class _Pair(tuple):  # type: ignore[type-arg]
        def __lt__(self, other: object) -> bool:
            return False  # sorted() then leaves everything where it is

    def items(self) -> Any:
        """Return the pairs of name and task."""
        return [self._Pair(pair) for pair in super().items()]


# invoke sorts by name wherever it lists, and copies the collection that a tasks.py gives it into
# one of its own; so its own collections keep their order too (invoke 2.2 to 3.0).
invoke.collection.Lexicon = _InOrder  # type: ignore[attr-defined]

namespace = Collection(
    *(doctor, run, matrix, watch, ebpf, test_binaries, initramfs, clean),
    Collection(
        "kernels",
        *(kernels_list, kernels_fetch, kernels_update, kernels_search, kernels_build),
        kernels_prune,
    ),
    Collection("hooks", hooks_install),
)
