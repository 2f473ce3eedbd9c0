"""What `invoke verify` gives to a guest: the loader, the objects, and the loader's options.

`LoadPlan.make` reads the objects, and sets those apart that no kernel can load. `LoadPlan.commands`
returns the commands for one kernel, and `LoadPlan.too_old` the objects that it is too old for. In
the guest, the objects are in numbered folders, and have plain names.
"""

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.config.models import VerifyObjects
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError, suggestion
from bpfmatrix.host.documentation import page
from bpfmatrix.host.text import counted
from bpfmatrix.host.versions import numbers
from bpfmatrix.payload.model import MOUNT_POINT, Executable, Payload
from bpfmatrix.results.verification import ProgramResult, RefusedObject
from bpfmatrix.verify.collector import Collector
from bpfmatrix.verify.objects import (
    LoadedObject,
    ObjectContents,
    ObjectFile,
    big_endian_twin,
    inspect_all,
)
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.selection import to_load
from bpfmatrix.vm import limits

__all__ = ["DEFAULT_LOADER", "IGNORE_REQUIREMENTS", "LoadPlan", "ObjectGroup", "loaders_of"]

_FOLDER = "objects"
DEFAULT_LOADER = "libbpf"
"""The loader of objects for which neither kernels.yaml nor the command line names one."""
# What a file's name in the payload has _ for, and how long it is at most.
_UNPLAIN = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME = 100
# In the message about a program that no object has.
_SHOWN_PROGRAMS = 20
# Also read by the tests of ebpf/ (support/internal/requirement).
IGNORE_REQUIREMENTS = "BPFMATRIX_IGNORE_REQUIREMENTS"
"""The environment variable that has objects loaded on kernels that they declare to be too old."""


@dataclass(frozen=True)
class ObjectGroup:
    """Objects with the same settings, which one call of the supervisor loads."""

    loader: str
    """The loader that is asked: `libbpf`, `cilium-ebpf` or `aya`."""
    words: tuple[str, ...]
    """The supervisor's options for these objects."""
    places: tuple[str, ...]
    """The paths of the objects in the payload: their names in the supervisor's events, too."""


@dataclass(frozen=True)
class _PlannedObject:
    """An object file that was read, with one of its loaders and presets."""

    file: ObjectFile
    contents: ObjectContents
    place: str
    """Its path in the payload."""
    loader: str
    preset: str
    """A name in the object's settings; empty if it has no presets."""
    chosen: tuple[str, ...]
    """The names of the programs that are to be loaded."""
    label: str
    """What tells it from the other times that the same object is loaded."""

    @property
    def set(self) -> dict[str, str]:
        """The values of constants, with those of the preset."""
        settings = self.file.settings
        values = settings.set | (settings.presets[self.preset].set if self.preset else {})
        return {name: _text(value) for name, value in values.items()}

    @property
    def map_sizes(self) -> dict[str, str]:
        """The sizes of maps, with those of the preset."""
        settings = self.file.settings
        sizes = settings.map_sizes
        if self.preset:
            sizes = sizes | settings.presets[self.preset].map_sizes
        return {name: str(value) for name, value in sizes.items()}


@dataclass(frozen=True)
class LoadPlan:
    """All objects that are to be loaded. A `place` is an object's path in the payload."""

    by_place: Mapping[str, LoadedObject]
    groups: tuple[ObjectGroup, ...]
    requires: Mapping[str, str]
    """What objects need, such as `5.17 bpf_loop`, by their places."""
    files: Mapping[str, Path]
    """The object files on the host, by their places."""
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Where the functions are that `freplace` programs of an object replace, by its place: the
    places of other objects for the same loader."""
    limit_seconds: float = 30.0
    """The limit for one program, on a machine with KVM."""
    is_exact: bool = False
    """Whether the limit is the same under emulation."""
    refused: tuple[RefusedObject, ...] = ()
    """The files that no loader can be given."""

    @classmethod
    def make(
        cls, project: Project, objects: Sequence[ObjectFile], options: VerifyOptions
    ) -> "LoadPlan":
        """Read the objects; UsageError if none can be loaded, or an option names nothing."""
        whole, refused = inspect_all(objects)
        _check_names(whole, options)
        if not options.objects and not options.names and not refused:
            _check_entries(project.config.verify.objects, whole)
        planned = _planned(project, whole, options)
        ignored = _ignored(project)
        by_place, files, requires = {}, {}, {}
        groups: dict[tuple[str, str, str], list[_PlannedObject]] = {}
        for one in planned:
            if not one.chosen:
                continue
            path, settings = one.file.path, one.file.settings
            by_place[one.place] = LoadedObject(
                name=one.file.name,
                programs=one.chosen,
                left_out=frozenset(one.contents.programs).difference(one.chosen),
                folders=(project.root, path.parent, path.parent.parent),
                loader=one.loader,
                preset=one.preset,
                label=one.label,
            )
            files[one.place] = path
            needed = settings.requires or one.contents.requires
            if needed and not ignored:
                requires[one.place] = needed
            key = settings.model_dump_json(exclude={"path", "requires", "loader"})
            groups.setdefault((one.loader, one.preset, key), []).append(one)
        common = _common_words(project, options)
        return cls(
            by_place,
            tuple(
                ObjectGroup(
                    loader, (*common, *_words(group, options)), tuple(one.place for one in group)
                )
                for (loader, _, _), group in groups.items()
            ),
            requires,
            files,
            _targets([one for one in planned if one.chosen]),
            options.limit_seconds or project.config.verify.limit,
            options.limit_seconds is not None,
            tuple(refused),
        )

    @property
    def loaders(self) -> tuple[str, ...]:
        """The loaders that the objects are loaded with, each once."""
        return tuple(dict.fromkeys(group.loader for group in self.groups))

    @property
    def description(self) -> str:
        """What is loaded, in a few words: `6 eBPF objects, 9 programs, with libbpf, aya`."""
        objects = {one.name for one in self.by_place.values()}
        programs = {(one.name, name) for one in self.by_place.values() for name in one.programs}
        words = [counted(len(objects), "eBPF object"), counted(len(programs), "program")]
        if len(self.loaders) > 1:
            words.append(f"with {', '.join(self.loaders)}")
        return ", ".join(words)

    def has_files_of(self, folder: Path) -> bool:
        """Tell whether an object is in a folder, as those that the project's Makefile builds."""
        return any(path.is_relative_to(folder) for path in self.files.values())

    def payload(
        self, supervisor: Path, loaders: Mapping[str, Path], big_endian: bool = False
    ) -> Payload:
        """Return the payload: the supervisor, loaders by their names, and the objects.

        A `big_endian` guest gets the objects that were built for such machines. Where there is
        none, it gets the other, and a loader says that it is of the wrong byte order.
        """
        programs = {_program(name): path for name, path in loaders.items()}
        files = dict(self.files)
        if big_endian:
            files = {place: big_endian_twin(path) or path for place, path in files.items()}
        return Payload((Executable(supervisor, "plain"),), extra={**programs, **files})

    def too_old(self, version: str) -> dict[str, str]:
        """Return the reasons for which objects need a newer kernel, by their places.

        `version` is the upstream release of the kernel, such as `6.1.192`.
        """
        release, found = numbers(version), {}
        for place, text in self.requires.items():
            needed, _, feature = text.partition(" ")
            if release and release[:2] < numbers(needed)[:2]:
                found[place] = f"needs {needed} ({feature}), this kernel is {version}"
        return found

    def limit(self, accelerator: str) -> float:
        """Return the limit for one program, in seconds, on machines with `kvm` or `tcg`."""
        if self.is_exact:
            return self.limit_seconds
        return limits.declared(self.limit_seconds, "verify.limit", accelerator).seconds

    def weights(self) -> dict[str, int]:
        """Return how much work the objects are, by their places: the bytes of their files.

        A file that has gone meanwhile counts as nothing.
        """
        found = {}
        for place, path in self.files.items():
            found[place] = 0
            with contextlib.suppress(OSError):
                found[place] = path.stat().st_size
        return found

    def commands(
        self, supervisor: Path, places: Iterable[str], workers: int, accelerator: str
    ) -> list[tuple[ObjectGroup, tuple[str, ...]]]:
        """Return the groups of these objects, each with its command in a guest.

        `workers` is how many loaders work side by side; the guest has this accelerator.
        """
        wanted = set(places)
        limit = ("--limit", f"{self.limit(accelerator):g}", "--jobs", str(workers))
        found = []
        for group in self.groups:
            chosen = tuple(place for place in group.places if place in wanted)
            if chosen:
                group = dataclasses.replace(group, places=chosen)  # noqa: PLW2901
                loader = ("--loader", str(MOUNT_POINT / _program(group.loader)))
                wanted_too = (there for place in chosen for there in self.targets.get(place, ()))
                targets = ("--targets", ",".join(dict.fromkeys(wanted_too)))
                program = str(MOUNT_POINT / supervisor.name)
                words = (*loader, *group.words, *limit, *targets, *chosen)
                found.append((group, (program, *words)))
        return found

    def in_order(self, collectors: Iterable[Collector]) -> tuple[ProgramResult, ...]:
        """Return the results of several collectors in the order of the objects and programs."""
        found = {key: one for collector in collectors for key, one in collector.results.items()}
        order = (
            (place, program)
            for place, object in self.by_place.items()
            for program in object.programs
        )
        return tuple(found.pop(key) for key in order if key in found)


def _program(loader: str) -> str:
    """Return the path of a loader in the payload."""
    return f"loader-{loader}"


def _planned(
    project: Project,
    read: Iterable[tuple[ObjectFile, ObjectContents]],
    options: VerifyOptions,
) -> list[_PlannedObject]:
    """Return the objects, each once for each of its loaders and presets."""
    found: list[_PlannedObject] = []
    for file, contents in read:
        chosen = _chosen(file, contents, options)
        loaders = loaders_of(project, file.settings, options)
        presets = _presets(file, options)
        for loader in loaders:
            for preset in presets:
                label = [loader] if len(loaders) > 1 else []
                label += [preset] if len(presets) > 1 else []
                # libbpf and others name the maps of global data after the file.
                name = _UNPLAIN.sub("_", file.path.name)[:_LONGEST_NAME]
                place = f"{_FOLDER}/{len(found) + 1}/{name}"
                found.append(
                    _PlannedObject(file, contents, place, loader, preset, chosen, ".".join(label))
                )
    return found


def _targets(planned: Sequence[_PlannedObject]) -> dict[str, tuple[str, ...]]:
    """Return where the functions are that objects replace: see `LoadPlan.targets`."""
    return {
        one.place: tuple(
            other.place
            for other in planned
            if other is not one
            and other.loader == one.loader
            and other.contents.functions & one.contents.replaces
        )
        for one in planned
        if one.contents.replaces
    }


def loaders_of(
    project: Project, settings: VerifyObjects, options: VerifyOptions
) -> tuple[str, ...]:
    """Return the loaders of an object with these settings, each once."""
    chosen = settings.loader or project.config.verify.loader or DEFAULT_LOADER
    given = options.loaders or ((chosen,) if isinstance(chosen, str) else chosen)
    found = tuple(dict.fromkeys(given))
    return found[:1] if options.first_loader_only else found


def _presets(file: ObjectFile, options: VerifyOptions) -> tuple[str, ...]:
    """Return the presets of an object that are to be loaded; one empty name if it has none."""
    known = file.settings.presets
    if not known:
        return ("",)
    return tuple(name for name in known if not options.presets or name in options.presets)


def _ignored(project: Project) -> bool:
    """Whether requirements are ignored: a vendor's kernel may have features of newer ones."""
    given = (os.environ, project.config.payload.env)
    return any(environment.get(IGNORE_REQUIREMENTS) == "1" for environment in given)


def _common_words(project: Project, options: VerifyOptions) -> list[str]:
    """Return the loader's options that are the same for all objects."""
    declared = project.config.verify
    words = ["--attach"] if options.attach or declared.attach else []
    return [*words, "--log-level", "full" if options.full_log else "stats"]


def _words(group: Sequence[_PlannedObject], options: VerifyOptions) -> list[str]:
    """Return the supervisor's options for objects with the same settings and preset."""
    settings = group[0].file.settings
    symbols = frozenset[str]().union(*(one.contents.symbols for one in group))
    # A constant or a map size of the command line is only for the objects that have it.
    constants = group[0].set | {
        name: value for name, value in options.set.items() if name in symbols
    }
    sizes = group[0].map_sizes | {
        name: value for name, value in options.map_sizes.items() if name in symbols
    }
    words: list[str] = []
    for option, pairs in (("--set", constants), ("--map-size", sizes)):
        for name, value in pairs.items():
            words += [option, f"{name}={value}"]
    for variants in settings.variants:
        words += ["--variants", ",".join(variants)]
    for name in settings.optional:
        words += ["--optional", name]
    if any(one.chosen != one.contents.programs for one in group):
        # The names are for all objects of the group: what an object loads beyond its own choice is
        # not counted.
        for name in dict.fromkeys(name for one in group for name in one.chosen):
            words += ["--only", name]
    return words


def _chosen(file: ObjectFile, contents: ObjectContents, options: VerifyOptions) -> tuple[str, ...]:
    return tuple(
        name
        for name in contents.programs
        if (not options.only or name in options.only) and to_load(options.names, file.name, name)
    )


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_entries(
    entries: Iterable[VerifyObjects], read: Sequence[tuple[ObjectFile, ObjectContents]]
) -> None:
    """Raise a UsageError for a name in kernels.yaml that no object of its entry has."""
    for entry in entries:
        objects = [contents for file, contents in read if file.settings is entry]
        symbols = sorted(frozenset[str]().union(*(one.symbols for one in objects)))
        programs = sorted({name for one in objects for name in one.programs})
        presets = entry.presets.values()
        constants = [*entry.set, *(name for preset in presets for name in preset.set)]
        sizes = [*entry.map_sizes, *(name for preset in presets for name in preset.map_sizes)]
        for key, names, known in (
            ("set", constants, symbols),
            ("map_sizes", sizes, symbols),
            ("optional", entry.optional, programs),
            ("variants", list(itertools.chain(*entry.variants)), programs),
        ):
            for name in names if objects else ():
                if name not in known:
                    raise UsageError(
                        f"kernels.yaml: verify.objects: {key} of {entry.path} has {name}, which "
                        f"none of its objects has{suggestion(name, known)}"
                    )


def _listed(programs: Sequence[str]) -> str:
    more = len(programs) - _SHOWN_PROGRAMS
    rest = f", and {more} more" if more > 0 else ""
    return f"The programs are {', '.join(programs[:_SHOWN_PROGRAMS])}{rest}." if programs else ""


def _check_names(read: Sequence[tuple[ObjectFile, ObjectContents]], options: VerifyOptions) -> None:
    """Raise a UsageError for a name on the command line that none of the objects has."""
    symbols = sorted(frozenset[str]().union(*(contents.symbols for _, contents in read)))
    programs = sorted({name for _, contents in read for name in contents.programs})
    presets = list(dict.fromkeys(name for file, _ in read for name in file.settings.presets))
    for option, names, known, what in (
        ("--set", options.set, symbols, "variable"),
        ("--map-size", options.map_sizes, symbols, "map"),
        ("--preset", options.presets, presets, "preset"),
        ("program", options.only, programs, "program"),
    ):
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{option} {name}: no object has such a {what}{suggestion(name, known)}",
                    _listed(known) if known is programs else "",
                )
    if not any(_chosen(file, contents, options) for file, contents in read):
        raise UsageError("--filter leaves no program to load", f"See {page('verify.md')}")
