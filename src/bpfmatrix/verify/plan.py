"""What `invoke verify` gives to a guest: the loader, the objects, and the loader's options.

`LoadPlan.make` reads the objects, and sets those apart that no kernel can load. `LoadPlan.commands`
returns the commands for one kernel, and `LoadPlan.too_old` the objects that it is too old for. In
the guest, the objects are numbered, so that their own names may be anything.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError, suggestion
from bpfmatrix.host.versions import numbers
from bpfmatrix.payload.model import MOUNT_POINT, Executable, Payload
from bpfmatrix.results.verification import RefusedObject
from bpfmatrix.verify.objects import LoadedObject, ObjectContents, ObjectFile, inspect_all
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.selection import to_load

__all__ = ["IGNORE_REQUIREMENTS", "LoadPlan", "ObjectGroup"]

_FOLDER = "objects"
# Also read by the loader, and by the tests of ebpf/ (support/internal/requirement).
IGNORE_REQUIREMENTS = "BPFMATRIX_IGNORE_REQUIREMENTS"
"""The environment variable that has objects loaded on kernels that they declare to be too old."""


@dataclass(frozen=True)
class ObjectGroup:
    """Objects with the same settings, which one call of the loader loads."""

    words: tuple[str, ...]
    """The loader's options."""
    places: tuple[str, ...]
    """The paths of the objects in the payload: their names in the loader's events, too."""


@dataclass(frozen=True)
class _ReadObject:
    """An object file that was read, and its path in the payload."""

    file: ObjectFile
    contents: ObjectContents
    place: str
    chosen: tuple[str, ...]
    """The names of the programs that are to be loaded."""


@dataclass(frozen=True)
class LoadPlan:
    """All objects that are to be loaded. A `place` is an object's path in the payload."""

    by_place: Mapping[str, LoadedObject]
    groups: tuple[ObjectGroup, ...]
    requires: Mapping[str, str]
    """What objects need, such as `5.17 bpf_loop`, by their places."""
    files: Mapping[str, Path]
    """The object files on the host, by their places."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The loader's environment variables."""
    refused: tuple[RefusedObject, ...] = ()
    """The files that no loader can be given."""

    @classmethod
    def make(
        cls, project: Project, objects: Sequence[ObjectFile], options: VerifyOptions
    ) -> "LoadPlan":
        """Read the objects; UsageError if none can be loaded, or an option names nothing."""
        whole, refused = inspect_all(objects)
        read = [
            _ReadObject(one, contents, f"{_FOLDER}/{number}.o", _chosen(one, contents, options))
            for number, (one, contents) in enumerate(whole, start=1)
        ]
        _check_names(read, options)
        ignored = _ignored(project)
        by_place, files, requires = {}, {}, {}
        groups: dict[str, list[_ReadObject]] = {}
        for one in read:
            programs = one.chosen
            if not programs:
                continue
            path, settings = one.file.path, one.file.settings
            folders = (project.root, path.parent, path.parent.parent)
            left_out = frozenset(one.contents.programs).difference(programs)
            by_place[one.place] = LoadedObject(one.file.name, programs, left_out, folders)
            files[one.place] = path
            needed = settings.requires or one.contents.requires
            if needed and not ignored:
                requires[one.place] = needed
            key = settings.model_dump_json(exclude={"path", "requires"})
            groups.setdefault(key, []).append(one)
        common = _common_words(project, options)
        # The loader reads the requirements too, so it has to be told to ignore them.
        env = {IGNORE_REQUIREMENTS: "1"} if ignored else {}
        return cls(
            by_place,
            tuple(
                ObjectGroup((*common, *_words(group, options)), tuple(one.place for one in group))
                for group in groups.values()
            ),
            requires,
            files,
            env,
            tuple(refused),
        )

    def payload(self, loader: Path) -> Payload:
        """Return the payload: the loader, and the objects."""
        return Payload((Executable(loader, "program"),), env=dict(self.env), extra=dict(self.files))

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

    def commands(
        self, loader: Path, left_out: Iterable[str], cpus: int
    ) -> list[tuple[ObjectGroup, tuple[str, ...]]]:
        """Return the groups, each with its command in the guest.

        `left_out` are the places of objects that are not to be loaded.
        """
        out = set(left_out)
        found = []
        for group in self.groups:
            places = tuple(place for place in group.places if place not in out)
            if places:
                group = dataclasses.replace(group, places=places)  # noqa: PLW2901
                program = str(MOUNT_POINT / loader.name)
                words = (*group.words, "--jobs", str(cpus))
                found.append((group, (program, *words, *places)))
        return found


def _ignored(project: Project) -> bool:
    """Whether requirements are ignored: a vendor's kernel may have features of newer ones."""
    given = (os.environ, project.config.payload.env)
    return any(environment.get(IGNORE_REQUIREMENTS) == "1" for environment in given)


def _common_words(project: Project, options: VerifyOptions) -> list[str]:
    """Return the loader's options that are the same for all objects."""
    declared = project.config.verify
    words = ["--attach"] if options.attach or declared.attach else []
    words += ["--log-level", "full" if options.full_log else "stats"]
    return [*words, "--limit", f"{options.limit_seconds or declared.limit:g}"]


def _words(group: Sequence[_ReadObject], options: VerifyOptions) -> list[str]:
    """Return the loader's options for objects with the same settings."""
    settings = group[0].file.settings
    symbols = frozenset[str]().union(*(one.contents.symbols for one in group))
    # A constant or a map size of the command line is only for the objects that have it.
    constants = {
        **{name: _text(value) for name, value in settings.set.items()},
        **{name: value for name, value in options.set.items() if name in symbols},
    }
    sizes = {
        **{name: str(value) for name, value in settings.map_sizes.items()},
        **{name: value for name, value in options.map_sizes.items() if name in symbols},
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


def _check_names(read: Sequence[_ReadObject], options: VerifyOptions) -> None:
    """Raise a UsageError for a name on the command line that none of the objects has."""
    symbols = sorted(frozenset[str]().union(*(one.contents.symbols for one in read)))
    programs = sorted({name for one in read for name in one.contents.programs})
    for option, names, known, what in (
        ("--set", options.set, symbols, "variable"),
        ("--map-size", options.map_sizes, symbols, "map"),
        ("program", options.only, programs, "program"),
    ):
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{option} {name}: no object has such a {what}{suggestion(name, known)}"
                )
    if not any(one.chosen for one in read):
        raise UsageError("--filter leaves no program to load", "See docs/verify.md.")
