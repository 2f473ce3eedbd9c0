"""Builds a kernel from source: fetches the sources, configures and compiles them, keeps the result.

`build` takes a `BuildSource` and gives a `BuiltKernel`: the folder `ci-kernels/<version>` with
`vmlinuz`, `vmlinux`, `config`, `System.map`, and a `build.json` that says what it was made of. The
source trees and the folders that make works in stay in `ci-kernels/_build`, so that an interrupted
build continues where it was.
"""

import contextlib
import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bpfmatrix.config.sources import BuildSource
from bpfmatrix.errors import BpfmatrixError, UnreachableError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.locks import locked
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels.build import configuration, kconfig, make, result, source_trees
from bpfmatrix.kernels.build.configuration import Requested
from bpfmatrix.kernels.build.make import Make
from bpfmatrix.kernels.build.result import BuiltKernel
from bpfmatrix.kernels.build.source_trees import Origin

__all__ = ["build", "configure", "estimated_minutes"]

# Measured with the fragments of this repository: the source tree, and the folder of make together
# with what is on the disk only while the sources are unpacked.
TREE_BYTES = 1700 << 20
OBJECTS_BYTES = 2200 << 20
# The steps of a build from nothing: an estimate, until a first build has counted them.
USUAL_STEPS = 2300
# The time that these steps take on one processor, without ccache.
USUAL_PROCESSOR_MINUTES = 18
# The architectures whose fragments were only checked against the trees of kernels.
_NEVER_BUILT = ("riscv64", "s390x", "ppc64le")


def estimated_minutes() -> int:
    """Return about how many minutes a build from nothing takes on this host."""
    return max(2, round(USUAL_PROCESSOR_MINUTES / make.processors()))


def build(
    source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress = silent
) -> BuiltKernel:
    """Build a kernel, or what changed since its last build; `root` is the folder of kernels.yaml.

    BpfmatrixError if something is missing (sources, tools, space, a fragment), as far as possible
    before anything is fetched, and if the build fails.
    """
    try:
        return _build(source, arch, root, cache, progress)
    except OSError as error:
        what = f"{error.filename or root} can't be written ({error.strerror})"
        raise BpfmatrixError(
            what, "Free some space there, or let this user write there."
        ) from error


def _build(
    source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress
) -> BuiltKernel:
    requested = result.requested_options(source, arch, root)
    make.require_tools(arch)
    if arch in _NEVER_BUILT:
        announce(
            progress,
            f"{source.version}: nobody has built a kernel with bpfmatrix's options for {arch} "
            f"(arch-{arch}.config) yet, so it may not build or boot",
        )
    folder = root / "ci-kernels/_build"
    folder.mkdir(parents=True, exist_ok=True)
    origin = _locate(source, arch, root, cache, progress)
    with _locked(folder, origin, arch, progress):
        objects = _objects(folder, origin, arch)
        _require_space(folder, origin, objects)
        tree = origin.provide(folder, cache, progress)
        objects.mkdir(exist_ok=True)
        maker = Make(tree.path, tree.version, objects, arch)
        progress(f"{tree.version}: configuring")
        unknown = configure(maker, requested, origin.package.version)
        started, used_before = time.monotonic(), _children_seconds()
        steps = _compile(maker, progress)
        seconds = time.monotonic() - started
        progress(f"{tree.version}: installing")
        about = {
            "version": tree.version,
            "source": origin.source,
            "packages": [asdict(origin.package)],
            "unknown": unknown,
            "seconds": round(seconds, 1),
            # Tells more than `seconds` if the machine had other things to do.
            "processor_seconds": round(_children_seconds() - used_before, 1),
            "steps": steps,
            "key": result.key_of(source, arch, requested),
            "fragments": [{"name": name, "sha256": sha256} for name, sha256 in requested.fragments],
        }
        target = result.folder_of(source, arch, root)
        _install(maker, target, source.debug, about)
    built = result.load(target)
    assert built is not None, "what was just installed can be read"
    return built


def _locate(source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress) -> Origin:
    try:
        return source_trees.locate(source, arch, root, cache, progress)
    except UnreachableError as error:
        found = source_trees.at_hand(source, root / "ci-kernels/_build")
        if found is None:
            raise
        progress(f"{error.what}; building the sources of {found.version} that are here")
        return found


def _objects(build: Path, origin: Origin, arch: str) -> Path:
    """Return the folder that make works in; each tree of the user has a folder of its own."""
    return build / f"objects-{origin.objects_name(build)}-{arch}"


@contextlib.contextmanager
def _locked(build: Path, origin: Origin, arch: str, progress: Progress) -> Iterator[None]:
    """Hold the lock on a source tree and its objects; tell `progress` if another build holds it."""
    name = _objects(build, origin, arch).name.removeprefix("objects-").removesuffix(f"-{arch}")
    waiting = f"{origin.version}: waiting for another build of it to end"
    with locked(build / f"lock-{name}", lambda: progress(waiting)):
        yield


def _require_space(build: Path, origin: Origin, objects: Path) -> None:
    needed = 0 if origin.folder(build).exists() else TREE_BYTES
    # The space was checked when an interrupted build began, so what it left counts as everything.
    needed += 0 if (objects / "vmlinux").exists() else OBJECTS_BYTES
    free = shutil.disk_usage(build).free
    if free < needed:
        raise BpfmatrixError(
            f"a build of {origin.version} takes {needed / 1e9:.1f} GB and {build} has "
            f"{free / 1e9:.1f} GB left",
            "Free some space, for example that of trees in ci-kernels/_build.",
        )


def configure(maker: Make, requested: Requested, sources: str) -> list[str]:
    """Make `.config`; return the options that the version does not have.

    `sources` is what identifies the sources. Other sources may have other options, so the
    configuration is made again; what does not change in it is not compiled again.
    """
    config, fragment = maker.objects / ".config", maker.objects / "requested.config"
    note = maker.objects / "configured-for"
    before = [path.read_text() if path.exists() else "" for path in (fragment, note)]
    if not config.exists() or before != [requested.text, sources]:
        note.unlink(missing_ok=True)
        maker.configure(requested.text)
        note.write_text(sources)
    known = kconfig.load(maker.tree, ARCHITECTURES[maker.arch].kernel_folder)
    options = configuration.parse_result(config.read_text())
    differences, unknown = configuration.compare(requested, options, known)
    if differences:
        fragment.unlink()  # so that the next build does not take this configuration as complete
    configuration.refuse(differences, maker.version)
    return unknown


def _compile(maker: Make, progress: Progress) -> int:
    """Run make; return the number of steps that it took."""
    note = maker.objects / "steps"
    known = int(note.read_text()) if note.exists() else USUAL_STEPS
    # Without `scripts`: the host's programs there were built in order to configure the kernel.
    folders = (path for path in maker.objects.iterdir() if path.is_dir() and path.name != "scripts")
    done = sum(1 for folder in folders for _ in folder.rglob("*.o"))
    about = f"{maker.version}: {'going on' if done else f'about {estimated_minutes()} minutes'}"

    def show(text: str, fraction: float | None = None) -> None:
        progress(f"{about}, {text}", fraction)

    targets, config = [maker.image.name], (maker.objects / ".config").read_text()
    if "=m\n" in config:
        targets.append("modules")
    if "CONFIG_GDB_SCRIPTS=y\n" in config:  # vmlinux-gdb.py, which only the target `all` makes
        targets.append("scripts_gdb")
    steps = maker.run(targets, show, done, max(known, done + 1))
    if not done:
        note.write_text(str(steps))
    return steps


def _install(maker: Make, target: Path, debug: bool, about: dict[str, Any]) -> None:
    """Put the result into its folder, which appears by one rename."""
    with tempfile.TemporaryDirectory(dir=maker.objects.parent, prefix=".installing-") as made:
        new = Path(made) / "new"
        new.mkdir()
        _copy_files(maker, new, debug)
        description = {
            "format": result.FORMAT,
            **about,
            "release": (maker.objects / "include/config/kernel.release").read_text().strip(),
            "arch": maker.arch,
            "debug": debug,
            "tree": str(maker.tree),
            "objects": str(maker.objects),
            "compiler": _first_line([f"{maker.cross}gcc", "--version"]),
            "pahole": _first_line(["pahole", "--version"]),
            "ccache": maker.has_ccache,
            "built_at": time.time(),
            "sha256": {
                name: sha256_of(new / name)
                for name in ("vmlinuz", "vmlinux", "System.map", "config")
            },
        }
        (new / result.DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
        if target.exists():
            target.rename(Path(made) / "replaced")
        new.rename(target)


def _copy_files(maker: Make, new: Path, debug: bool) -> None:
    """Copy what make built into the folder `new`."""
    shutil.copyfile(maker.image, new / "vmlinuz")
    shutil.copyfile(maker.objects / "System.map", new / "System.map")
    shutil.copyfile(maker.objects / ".config", new / "config")
    if debug:
        shutil.copyfile(maker.objects / "vmlinux", new / "vmlinux")
    else:  # without DWARF it takes a fifth of the space
        paths = (maker.objects / "vmlinux", new / "vmlinux")
        subprocess.run([f"{maker.cross}objcopy", "--strip-debug", "--", *paths], check=True)
    if (maker.objects / "modules.order").exists() and "=m\n" in (new / "config").read_text():
        maker.run(["modules_install"], extra=[f"INSTALL_MOD_PATH={new}"])
        for link in new.glob("lib/modules/*/*"):
            if link.is_symlink():  # `build` and `source`, which lead into the source tree
                link.unlink()


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), "")
