"""What `invoke verify` gives to a machine: the loader, the objects, and the loader's words.

`LoadPlan.make` reads the objects, and refuses what no kernel could load. `LoadPlan.commands` gives
the commands for one kernel, and `LoadPlan.too_old` the objects that it is too old for. The guest
sees the objects under numbers, so that their own names may be anything.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.config.models import VerifyObjects
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError, suggestion
from bpfmatrix.host.versions import numbers
from bpfmatrix.payload.model import MOUNT_POINT, Executable, Payload
from bpfmatrix.verify.collector import LoadedObject
from bpfmatrix.verify.objects import Inspected, ObjectFile, inspect
from bpfmatrix.verify.options import VerifyOptions

__all__ = ["Group", "LoadPlan"]

_FOLDER = "objects"
# The tests of ebpf/ know it too (support/internal/requirement).
_IGNORED = "BPFMATRIX_IGNORE_REQUIREMENTS"


@dataclass(frozen=True)
class Group:
    """Objects that one call of the loader loads, for they have the same settings."""

    words: tuple[str, ...]
    """The loader's options."""
    places: tuple[str, ...]
    """The objects' paths in the payload, by which the loader calls them."""


@dataclass(frozen=True)
class LoadPlan:
    """All that is to be loaded."""

    by_place: Mapping[str, LoadedObject]
    """The objects, by their places."""
    groups: tuple[Group, ...]
    requires: Mapping[str, str]
    """What objects need, such as `5.17 bpf_loop`, by their places."""
    files: Mapping[str, Path]
    env: Mapping[str, str] = field(default_factory=dict)
    """The loader's environment."""

    @classmethod
    def make(
        cls, project: Project, objects: Sequence[ObjectFile], options: VerifyOptions
    ) -> "LoadPlan":
        """Read the objects; UsageError says what can't be loaded, or means nothing."""
        read = [(one, inspect(one.path, one.name)) for one in objects]
        _check_names(read, options)
        by_place, files, requires = {}, {}, {}
        ignored = _ignored(project)
        grouped: dict[str, list[tuple[str, ObjectFile, Inspected]]] = {}
        for number, (one, found) in enumerate(read, start=1):
            programs = tuple(n for n in found.programs if not options.only or n in options.only)
            if not programs:
                continue
            place = f"{_FOLDER}/{number}.o"
            folders = (project.root, one.path.parent, one.path.parent.parent)
            by_place[place] = LoadedObject(one.name, programs, folders)
            files[place] = one.path
            needed = one.settings.requires or found.requires
            if needed and not ignored:
                requires[place] = needed
            key = one.settings.model_dump_json(exclude={"path", "requires"})
            grouped.setdefault(key, []).append((place, one, found))
        attach = options.attach or project.config.verify.attach
        limit = options.limit_seconds or project.config.verify.limit
        common = (
            *(("--attach",) if attach else ()),
            *("--log-level", "full" if options.full_log else "stats", "--limit", f"{limit:g}"),
        )
        groups = tuple(
            Group((*common, *_words(members, options)), tuple(place for place, *_ in members))
            for members in grouped.values()
        )
        # The loader reads what an object requires too.
        return cls(by_place, groups, requires, files, {_IGNORED: "1"} if ignored else {})

    def payload(self, loader: Path) -> Payload:
        """Return what the guest gets."""
        return Payload((Executable(loader, "program"),), env=dict(self.env), extra=dict(self.files))

    def too_old(self, version: str) -> dict[str, str]:
        """Return why a kernel of this release can't have some of the objects, by their places."""
        release, found = numbers(version), {}
        for place, text in self.requires.items():
            needed, _, feature = text.partition(" ")
            if release and release[:2] < numbers(needed)[:2]:
                found[place] = f"needs {needed} ({feature}), this kernel is {version}"
        return found

    def commands(
        self, loader: Path, left_out: Iterable[str], cpus: int
    ) -> list[tuple[Group, tuple[str, ...]]]:
        """Return the groups without what is left out, each with its command in the guest."""
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
    """Whether objects are loaded whatever they require, as vendors' kernels may have it."""
    given = (os.environ, project.config.payload.env)
    return any(environment.get(_IGNORED) == "1" for environment in given)


def _words(
    members: Sequence[tuple[str, ObjectFile, Inspected]], options: VerifyOptions
) -> list[str]:
    settings: VerifyObjects = members[0][1].settings
    symbols = frozenset[str]().union(*(found.symbols for _, _, found in members))
    programs = {name for _, _, found in members for name in found.programs}
    # What the command line says of a constant is for the objects that have it.
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
    for name in options.only:
        words += ["--only", name] if name in programs else []
    return words


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_names(read: Sequence[tuple[ObjectFile, Inspected]], options: VerifyOptions) -> None:
    """Refuse names that none of the objects has."""
    symbols = sorted(frozenset[str]().union(*(found.symbols for _, found in read)))
    programs = sorted({name for _, found in read for name in found.programs})
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
