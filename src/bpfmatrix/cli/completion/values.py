"""The values of options in a project: ids of kernels, names of tests, objects, programs and others.

Files are read without the models of kernels.yaml and of results, whose import takes longer than a
user wants to wait for a completion. A file that is broken or missing has no values, and no message
is printed: that would end up in the middle of the user's command line.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bpfmatrix.cli import options
from bpfmatrix.cli.completion.candidates import Argument, Candidate
from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = ["COMPLETED", "Known", "values"]

_FILE_NAMES = ("kernels.yaml", "kernels.yml")
# Files of results that are larger are left out: reading them takes too long.
_LARGEST_BYTES = 4 << 20


class Known:
    """What is known in the folder of a command line."""

    def __init__(self, folder: Path) -> None:
        above = (folder, *folder.parents)
        files = (each / name for each in above for name in _FILE_NAMES)
        self._file = next((file for file in files if file.is_file()), None)
        self._folder = folder

    @cached_property
    def _data(self) -> dict[str, Any]:
        """The content of kernels.yaml, as far as it is a mapping."""
        import yaml

        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        if self._file is not None:
            # PyYAML raises more than its own errors, such as ValueError for a wrong date.
            with contextlib.suppress(Exception):
                return _mapping(yaml.load(self._file.read_bytes(), Loader=loader))  # noqa: S506
        return {}

    @property
    def kernels(self) -> list[str]:
        """The ids of the kernels."""
        return [id for id in _mapping(self._data.get("kernels")) if isinstance(id, str)]

    @property
    def profiles(self) -> list[str]:
        """The names of the profiles."""
        return [each for each in _mapping(self._data.get("profiles")) if isinstance(each, str)]

    @property
    def presets(self) -> list[str]:
        """The names of the presets of objects."""
        declared = _mapping(self._data.get("verify")).get("objects")
        listed = declared if isinstance(declared, list) else []
        found = (_mapping(_mapping(each).get("presets")) for each in listed)
        return [name for presets in found for name in presets if isinstance(name, str)]

    @property
    def tests(self) -> Iterator[tuple[str, str]]:
        """Binary and name of each test in the last results."""
        for result in self._results("results"):
            for test in _list(result.get("tests")):
                pair = (_mapping(test).get("binary"), _mapping(test).get("name"))
                if all(isinstance(each, str) for each in pair):
                    yield pair  # type: ignore[misc]

    @property
    def programs(self) -> Iterator[tuple[str, str]]:
        """Object and name of each program in the last verifications."""
        for result in self._results("verify"):
            for program in _list(result.get("programs")):
                pair = (_mapping(program).get("object"), _mapping(program).get("program"))
                if all(isinstance(each, str) for each in pair):
                    yield pair  # type: ignore[misc]

    def path(self, name: str) -> str:
        """Return the path of a file of the project, from the folder of the command line."""
        if self._file is None or self._file.parent == self._folder:
            return name
        up = len(self._folder.relative_to(self._file.parent).parts)
        return "../" * up + name

    def _results(self, kind: str) -> Iterator[dict[str, Any]]:
        if self._file is None:
            return
        folder = self._file.parent / ".bpfmatrix" / kind
        # After Ctrl-C, the last result that has rows is the one that was set aside.
        for file in sorted((*folder.glob("*.json"), *folder.glob("*.earlier/result"))):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                if file.stat().st_size <= _LARGEST_BYTES:
                    yield _mapping(json.loads(file.read_bytes()))


def _mapping(data: object) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _list(data: object) -> list[Any]:
    return data if isinstance(data, list) else []


_Source = Callable[[Known, str], Iterable[str]]


def _kernels(known: Known, text: str) -> Iterable[str]:
    yield from known.kernels
    if "@" in text:
        id = text.partition("@")[0]
        yield from (f"{id}@{profile}" for profile in known.profiles if id in known.kernels)


def _tests(known: Known, _: str) -> Iterable[str]:
    """Give the texts of --run that select a test of the last results, as messages name them."""
    from bpfmatrix.results.names import Labels

    tests = [SimpleNamespace(binary=binary, name=name) for binary, name in known.tests]
    labels = Labels.of_results(tests)
    return sorted({labels.selecting(test) for test in tests})


def _binaries(known: Known, _: str) -> Iterable[str]:
    return sorted({binary for binary, _ in known.tests})


def _objects(known: Known, _: str) -> Iterable[str]:
    return sorted({known.path(object) for object, _ in known.programs})


def _programs(known: Known, _: str) -> Iterable[str]:
    return sorted({program for _, program in known.programs})


def _columns(known: Known, _: str) -> Iterable[str]:
    from bpfmatrix.verify.columns import COLUMNS

    return [column.name for column in COLUMNS]


def _capabilities(known: Known, _: str) -> Iterable[str]:
    from bpfmatrix.config.value_types import CAPABILITIES

    return [*CAPABILITIES, "none"]


def _formats(known: Known, _: str) -> Iterable[str]:
    from bpfmatrix.report.formats import FORMATS

    return FORMATS


def _fixed(*texts: str) -> _Source:
    return lambda _, __: texts


def _several(source: _Source) -> _Source:
    """Return the values of a list with commas: the last one of it is completed."""

    def listed(known: Known, text: str) -> Iterable[str]:
        before, comma, last = text.rpartition(",")
        given = set(before.split(","))
        return (f"{before}{comma}{each}" for each in source(known, last) if each not in given)

    return listed


# By the options' names: a command may have an option of the table with another help text.
_SOURCES: Mapping[str, _Source] = {
    **{each.name: _kernels for each in (options.KERNEL, options.IDS, options.GOOD, options.BAD)},
    options.KERNELS.name: _several(_kernels),
    options.PROFILE.name: lambda known, _: known.profiles,
    options.RUN.name: _tests,
    options.TEST.name: _binaries,
    options.OBJECTS.name: _objects,
    options.OBJECT.name: _objects,
    options.PROGRAM.name: _programs,
    options.ANNOTATE.name: _programs,
    options.FILTER.name: _programs,
    options.PRESET.name: lambda known, _: known.presets,
    options.SORT.name: _several(_columns),
    options.FORMAT.name: _formats,
    options.CAPABILITIES.name: _several(_capabilities),
    options.LOADER.name: _several(_fixed("libbpf", "cilium-ebpf", "aya")),
    options.ARCH.name: _fixed(*ARCHITECTURES),
    options.NET.name: _fixed(*options.NETWORKS),
    options.ROOTFS.name: _fixed("host", "none", "oci:"),
    options.MEMLOCK.name: _fixed("unlimited", "default"),
    options.SKIPPED.name: _fixed("good", "bad", "unknown"),
    options.FROM.name: _fixed("kernel.org", "apt"),
    options.ONLY.name: _fixed(*options.INCLUDED),
    options.CI.name: _fixed(*options.CI_SYSTEMS),
    options.SHELL.name: _fixed(*options.SHELLS),
}
COMPLETED = frozenset(_SOURCES)
"""The names of the options whose values are completed. Those of others are files, or anything."""


def values(known: Known, argument: Argument, text: str) -> list[Candidate]:
    """Return the values of an option; `text` is the beginning of one."""
    source = _SOURCES.get(argument.name)
    return [] if source is None else [Candidate(each) for each in source(known, text)]
