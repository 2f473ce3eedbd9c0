"""The `build` source: a kernel made from source with the fragments of `ci-kernels`.

`build` takes a `BuildSource` and gives a `Built`: the folder `ci-kernels/<version>` with `vmlinuz`,
`vmlinux`, `config`, `System.map` and a `build.json` that says what it was made of. Source trees and
make's own folders are kept in `ci-kernels/_build`, so that a build goes on where it was.
"""

import contextlib
import json
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.sources import BuildSource
from bpfmatrix.errors import BpfmatrixError, UnreachableError, UsageError
from bpfmatrix.host.architecture import ARCHITECTURES, DEFAULT
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.locks import locked
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.build import configuration, kconfig, make, source_trees
from bpfmatrix.kernels.build.configuration import Requested
from bpfmatrix.kernels.build.make import Make
from bpfmatrix.kernels.build.source_trees import Origin
from bpfmatrix.kernels.image import KernelImage, Package

__all__ = ["Built", "asked", "build", "existing", "folder_of", "is_current", "minutes"]

FORMAT = 1
DESCRIPTION = "build.json"

# Measured with the fragments of this repository: the tree, what make leaves beside it, and what is
# read while it is unpacked.
TREE_BYTES = 1700 << 20
OBJECTS_BYTES = 2200 << 20
# Steps of a build from nothing, to reckon with before there is a build to go by.
USUAL_STEPS = 2300
# One processor's time for them, without a cache.
USUAL_PROCESSOR_MINUTES = 18


@dataclass(frozen=True)
class Built:
    """A kernel that was built."""

    folder: Path
    version: str
    """Of the sources: `6.1.192`."""
    release: str
    """What `uname -r` says."""
    source: str
    """Where the sources are from, for people: `kernel.org, signature not checked`."""
    packages: tuple[Package, ...]
    unknown: tuple[str, ...]
    """The options that were asked for and that this version does not know."""
    seconds: float
    """What make took."""
    key: str
    """Of what was asked for: the same for the same source and fragments."""

    @property
    def modules(self) -> Path:
        """The folder `lib/modules`, which is there if a fragment asked for modules."""
        return self.folder / "lib/modules"


def asked(
    config: Config, version: str, given: Mapping[str, Any], arch: str
) -> tuple[BuildSource, str]:
    """Return what a command line asks for, over what a kernel of that name has as its source.

    `given` is by the keys of BuildSource; what is empty was not given. UsageError for a value that
    the key does not take.
    """
    entry = config.kernels.get(version)
    declared = entry.source.build if entry else None
    known = declared.model_dump(by_alias=True, exclude_unset=True) if declared else {}
    words = {**known, **{key: value for key, value in given.items() if value}}
    if arch not in ("", *ARCHITECTURES):
        raise UsageError(f"--arch {arch}: expected one of {', '.join(ARCHITECTURES)}")
    for_arch = arch or (config.kernel(version).arch if entry else config.defaults.arch)
    try:
        return BuildSource.model_validate({"version": version, **words}), for_arch
    except ValidationError as error:
        first = error.errors()[0]
        what = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--{first['loc'][0]}: {what}") from error


def folder_of(source: BuildSource, arch: str, root: Path) -> Path:
    """Return where a build's result lies."""
    name = source.version if arch == DEFAULT.name else f"{source.version}-{arch}"
    return root / "ci-kernels" / re.sub(r"[^\w.+~-]", "_", name)


def existing(source: BuildSource, arch: str, root: Path) -> Built | None:
    """Return the kernel that was built for the same source and fragments, if it is as it was."""
    built = _load(folder_of(source, arch, root))
    if built is None or built.key != _key(source, arch, _requested(source, arch, root)):
        return None
    return built


def _load(folder: Path) -> Built | None:
    try:
        data = json.loads((folder / DESCRIPTION).read_bytes())
        built = Built(
            folder=folder,
            version=data["version"],
            release=data["release"],
            source=data["source"],
            packages=tuple(Package(**package) for package in data["packages"]),
            unknown=tuple(data["unknown"]),
            seconds=data["seconds"],
            key=data["key"],
        )
        if data["format"] != FORMAT or sha256_of(folder / "vmlinuz") != data["sha256"]["vmlinuz"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return built


def is_current(kernel: KernelConfig, source: BuildSource, image: KernelImage) -> bool:
    """Whether a stored image is what was built last, and for what its fragments say now.

    What was built may be removed: the image stays.
    """
    try:
        path = folder_of(source, kernel.arch, kernel.root) / DESCRIPTION
        data = json.loads(path.read_bytes())
        built, key = f"sha256:{data['sha256']['vmlinuz']}", data["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    if built != image.digest:
        return False
    return bool(key == _key(source, kernel.arch, _requested(source, kernel.arch, kernel.root)))


def minutes() -> int:
    """Return how many minutes a build from nothing takes here, about."""
    return max(2, round(USUAL_PROCESSOR_MINUTES / make.processors()))


def build(
    source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress = silent
) -> Built:
    """Build a kernel, or what has changed of it; `root` is the folder of kernels.yaml.

    BpfmatrixError for what is missing (sources, tools, space, a fragment) and for what failed.
    Raised before anything is fetched where that can be told before.
    """
    try:
        return _build(source, arch, root, cache, progress)
    except OSError as error:
        what = f"{error.filename or root} can't be written ({error.strerror})"
        raise BpfmatrixError(
            what, "Free some space there, or let this user write there."
        ) from error


def _build(source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress) -> Built:
    requested = _requested(source, arch, root)
    make.require_tools(arch)
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
        unknown = _configure(maker, requested)
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
            # Tells more than the former on a machine that has other things to do.
            "processor_seconds": round(_children_seconds() - used_before, 1),
            "steps": steps,
            "key": _key(source, arch, requested),
            "fragments": [{"name": name, "sha256": sha256} for name, sha256 in requested.fragments],
        }
        target = folder_of(source, arch, root)
        _install(maker, target, source.debug, about)
    built = _load(target)
    assert built is not None, "what was just installed can be read"
    return built


def _locate(source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress) -> Origin:
    try:
        return source_trees.locate(source, arch, root, cache, progress)
    except UnreachableError as error:
        found = source_trees.at_hand(source, root / "ci-kernels/_build")
        if found is None:
            raise
        progress(f"{error.what}; going on with the sources of {found.version} that are here")
        return found


def _requested(source: BuildSource, arch: str, root: Path) -> Requested:
    return configuration.read(configuration.find(root, arch, source.debug, source.config))


def _key(source: BuildSource, arch: str, requested: Requested) -> str:
    # Where a keyring or a fragment lies does not change the kernel; what is in the latter does.
    asked = source.model_dump(mode="json", include={"version", "origin", "suite", "url", "sha256"})
    text = json.dumps([asked, arch, source.debug, requested.text], sort_keys=True)
    return sha256(text)


def _objects(build: Path, origin: Origin, arch: str) -> Path:
    """Return make's folder; for a tree of the user's, one that is this tree's alone."""
    tree = origin.folder(build)
    own = "" if tree.parent == build else "-" + sha256(str(tree))[:8]
    return build / f"objects-{origin.version}{own}-{arch}"


@contextlib.contextmanager
def _locked(build: Path, origin: Origin, arch: str, progress: Progress) -> Iterator[None]:
    """Hold the lock on a tree and its objects; says so if somebody else has it."""
    name = _objects(build, origin, arch).name.removeprefix("objects-").removesuffix(f"-{arch}")
    waiting = f"{origin.version}: waiting for another build of it to end"
    with locked(build / f"lock-{name}", lambda: progress(waiting)):
        yield


def _require_space(build: Path, origin: Origin, objects: Path) -> None:
    needed = 0 if origin.folder(build).exists() else TREE_BYTES
    # What an interrupted build left counts as all: it is asked for when it begins.
    needed += 0 if (objects / "vmlinux").exists() else OBJECTS_BYTES
    free = shutil.disk_usage(build).free
    if free < needed:
        raise BpfmatrixError(
            f"a build of {origin.version} takes {needed / 1e9:.1f} GB and {build} has "
            f"{free / 1e9:.1f} GB left",
            "Free some space, for example that of trees in ci-kernels/_build.",
        )


def _configure(maker: Make, requested: Requested) -> list[str]:
    """Make `.config`; returns the options that the version does not know."""
    config = maker.objects / ".config"
    before = config.read_bytes() if config.exists() else b""
    asked = maker.objects / "requested.config"
    if not before or not asked.exists() or asked.read_text() != requested.text:
        maker.configure(requested.text)
    known = kconfig.load(maker.tree, ARCHITECTURES[maker.arch].kernel_folder)
    result = configuration.parse_result(config.read_text())
    differences, unknown = configuration.compare(requested, result, known)
    if differences:
        asked.unlink()  # so that the next build does not take this one's for done
    configuration.refuse(differences, maker.version)
    return unknown


def _compile(maker: Make, progress: Progress) -> int:
    """Run make; returns the steps of a whole build, as far as they are known."""
    note = maker.objects / "steps"
    known = int(note.read_text()) if note.exists() else USUAL_STEPS
    # Those of the host's programs, which were made to configure, are below `scripts`.
    parts = (path for path in maker.objects.iterdir() if path.is_dir() and path.name != "scripts")
    done = sum(1 for part in parts for _ in part.rglob("*.o"))
    about = f"{maker.version}: {'going on' if done else f'about {minutes()} minutes'}"

    def tell(text: str, fraction: float | None = None) -> None:
        progress(f"{about}, {text}", fraction)

    targets, config = [maker.image.name], (maker.objects / ".config").read_text()
    if "=m\n" in config:
        targets.append("modules")
    if "CONFIG_GDB_SCRIPTS=y\n" in config:  # vmlinux-gdb.py, which only the target `all` makes
        targets.append("scripts_gdb")
    steps = maker.run(targets, tell, done, max(known, done + 1))
    if not done:
        note.write_text(str(steps))
    return steps


def _install(maker: Make, target: Path, debug: bool, about: dict[str, Any]) -> None:
    """Put the results into their folder; it appears by one rename."""
    with tempfile.TemporaryDirectory(dir=maker.objects.parent, prefix=".installing-") as made:
        new = Path(made) / "new"
        new.mkdir()
        shutil.copyfile(maker.image, new / "vmlinuz")
        shutil.copyfile(maker.objects / "System.map", new / "System.map")
        shutil.copyfile(maker.objects / ".config", new / "config")
        if debug:
            shutil.copyfile(maker.objects / "vmlinux", new / "vmlinux")
        else:  # without DWARF it takes a fifth of the space
            paths = (maker.objects / "vmlinux", new / "vmlinux")
            subprocess.run([f"{maker.cross}objcopy", "--strip-debug", *paths], check=True)
        if (maker.objects / "modules.order").exists() and "=m\n" in (new / "config").read_text():
            maker.run(["modules_install"], extra=[f"INSTALL_MOD_PATH={new}"])
            for link in new.glob("lib/modules/*/*"):
                if link.is_symlink():  # `build` and `source`, which lead into the trees
                    link.unlink()
        release = (maker.objects / "include/config/kernel.release").read_text().strip()
        files = ("vmlinuz", "vmlinux", "System.map", "config")
        description = {
            "format": FORMAT,
            **about,
            "release": release,
            "arch": maker.arch,
            "debug": debug,
            "tree": str(maker.tree),
            "objects": str(maker.objects),
            "compiler": _first_line([f"{maker.cross}gcc", "--version"]),
            "pahole": _first_line(["pahole", "--version"]),
            "ccache": maker.has_ccache,
            "built_at": time.time(),
            "sha256": {name: sha256_of(new / name) for name in files},
        }
        (new / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
        if target.exists():
            target.rename(Path(made) / "replaced")
        new.rename(target)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), "")
