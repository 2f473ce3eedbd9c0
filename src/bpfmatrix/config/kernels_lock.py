"""The file kernels.lock, beside kernels.yaml: what each id resolved to, for users to commit.

`invoke kernels.update` writes it. Where an id has an entry, a `Pin`, exactly that kernel runs, on
every machine. The file is JSON, which is read in a fraction of a millisecond, at each run; each
value has a line of its own, and kernels have the order of their ids, so that git can merge changes
of different kernels.
"""

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError, ConfigError, suggestion
from bpfmatrix.host import versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.front_end import command

__all__ = ["FILE_NAME", "Package", "Pin", "exists", "read", "write"]

FILE_NAME = "kernels.lock"
FORMAT = 1
_DIGEST = (r"sha256:[0-9a-f]{64}", "a digest: sha256: and 64 digits of 0-9 and a-f")
# A character of a text: no control character, and none of Unicode's ends of lines.
_LINE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]"
# Patterns of texts, and what was expected where one does not match.
_TEXTS = {
    "arch": ("|".join(ARCHITECTURES), " or ".join(ARCHITECTURES)),
    "vendor": (f"{_LINE}*", "a text of one line"),
    "digest": _DIGEST,
    "files": _DIGEST,
    "release": (versions.UNAME_RELEASE, "a release, as `uname -r` says it"),
    "sha256": (r"([0-9a-f]{64})?", "a SHA-256: 64 digits of 0-9 and a-f"),
}
_ANY = (f"{_LINE}+", "a text of one line")
# What git writes around the two sides of a conflict (git-merge(1), "How conflicts are presented").
_CONFLICT_MARKS = ("<<<<<<< ", "=======", ">>>>>>> ")


@dataclass(frozen=True)
class Package:
    """One file that a kernel was taken from."""

    name: str
    version: str
    sha256: str
    """The checksum of the file, as the source's signed index has it and as it was verified. Of an
    image of a registry, that of its manifest; of a folder with a source tree, empty."""


@dataclass(frozen=True)
class Pin:
    """What one id is pinned to."""

    arch: str
    source: Mapping[str, Any]
    """The source in kernels.yaml that this came from."""
    version: str
    """The upstream release: `6.1.192`."""
    release: str
    """What `uname -r` says."""
    digest: str
    """Of vmlinuz, as in `KernelImage.digest`."""
    files: str
    """Of the configuration and the modules: see `KernelImage.files_digest`."""
    origin: str
    """The source as results name it, such as `apt bookworm-security`."""
    vendor: str
    """The distributor of the packages; empty if the source names none."""
    packages: tuple[Package, ...]
    """What the kernel was taken from."""

    @functools.cached_property
    def key(self) -> str:
        """The checksum of all that is pinned."""
        return sha256(json.dumps(asdict(self), sort_keys=True))


def exists(root: Path) -> bool:
    """Whether the folder of a kernels.yaml has a kernels.lock."""
    return (root / FILE_NAME).exists()


def read(root: Path) -> dict[str, Pin]:
    """Return the pins in the folder of a kernels.yaml, by the ids of kernels; none without a file.

    ConfigError names the line or the key that is wrong.
    """
    path = root / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin files with a BOM
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: can't be read: {error}", _advice()) from error
    return dict(_parsed(path, text))


@functools.lru_cache(maxsize=8)
def _parsed(path: Path, text: str) -> Mapping[str, Pin]:  # once for all kernels of a matrix
    try:
        return _pins(json.loads(text, object_pairs_hook=_without_duplicates))
    except json.JSONDecodeError as error:
        if line := _conflict(text):
            raise ConfigError(
                f"{path.name}: line {line}: the file has the conflict markers of a git merge",
                "Keep one side: `git checkout --ours kernels.lock`, or `--theirs`.",
            ) from error
        raise ConfigError(f"{path.name}: line {error.lineno}: {error.msg}", _advice()) from error
    except _NewerError as error:
        raise ConfigError(f"{path.name}: {error}", "Update bpfmatrix.") from error
    except _WrongError as error:
        raise ConfigError(f"{path.name}: {error}", _advice()) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, and the like
        raise ConfigError(f"{path.name}: can't be read as JSON: {error}", _advice()) from error


def _pins(data: object) -> dict[str, Pin]:
    if not isinstance(data, dict):
        raise _WrongError("expected a mapping")
    found = data.get("format")
    if type(found) is int and found > FORMAT:
        raise _NewerError(f"format: expected {FORMAT}, found {found}: a newer bpfmatrix wrote it")
    if type(found) is not int or found != FORMAT:  # neither True nor 1.0, which equal 1
        raise _WrongError(f"format: expected {FORMAT}, found {found!r}")
    if unknown := sorted(data.keys() - {"format", "kernels"}):
        raise _WrongError(f"{unknown[0]}: unknown key{suggestion(unknown[0], ['kernels'])}")
    if not isinstance(kernels := data.get("kernels"), dict):
        raise _WrongError("kernels: expected a mapping")
    return {id: _pin(f"kernels.{id}", entry) for id, entry in kernels.items()}


def _pin(where: str, data: object) -> Pin:
    """Return the pin that is described at a key; _WrongError if it is none.

    By hand: to build a validator of pydantic takes 3 ms, at each run of a kernel.
    """
    entry = _mapping(where, data, Pin)
    if not isinstance(entry["source"], dict):
        raise _WrongError(f"{where}.source: expected a mapping")
    if not isinstance(entry["packages"], list) or not entry["packages"]:
        raise _WrongError(f"{where}.packages: expected a list with at least one package")
    packages = tuple(
        Package(**_mapping(f"{where}.packages.{number}", package, Package))
        for number, package in enumerate(entry["packages"])
    )
    for number, package in enumerate(packages):
        if not package.sha256 and "build" not in entry["source"]:  # see Package.sha256
            raise _WrongError(f"{where}.packages.{number}.sha256: expected {_TEXTS['sha256'][1]}")
    return Pin(**{**entry, "packages": packages})


def _mapping(where: str, data: object, made: type[Package | Pin]) -> dict[str, Any]:
    """Return a mapping that has exactly the fields of a class; its texts are checked."""
    if not isinstance(data, dict):
        raise _WrongError(f"{where}: expected a mapping")
    names = [field.name for field in fields(made)]
    if unknown := [key for key in data if key not in names]:
        raise _WrongError(f"{where}.{unknown[0]}: unknown key{suggestion(unknown[0], names)}")
    for name in names:
        if name not in data:
            raise _WrongError(f"{where}.{name}: the key is missing")
        value = data[name]
        if name in ("source", "packages"):
            continue
        if not isinstance(value, str):
            raise _WrongError(f"{where}.{name}: expected a text")
        pattern, expected = _TEXTS.get(name, _ANY)
        if not re.fullmatch(pattern, value):
            raise _WrongError(f"{where}.{name}: expected {expected}")
    return data


def write(root: Path, pins: Mapping[str, Pin]) -> None:
    """Write kernels.lock; BpfmatrixError if that fails, or if `read` would not take it.

    The caller holds a lock, so that no other process's pins are lost.
    """
    path = (root / FILE_NAME).resolve()  # a link to it stays one
    ordered = sorted(pins, key=lambda id: (versions.all_numbers(id), id))
    data = {"format": FORMAT, "kernels": {id: asdict(pins[id]) for id in ordered}}
    text = json.dumps(data, indent=2) + "\n"
    try:
        _pins(json.loads(text))
    except _WrongError as error:  # such as a name with a line break in it
        raise BpfmatrixError(f"{path.name} can't have this: {error}") from error
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as error:
        raise BpfmatrixError(
            f"{path} can't be written ({error.strerror})", "Let this user write into its folder."
        ) from error
    finally:
        half.unlink(missing_ok=True)


class _WrongError(ValueError):
    """The content is not that of a kernels.lock: the key, and what was expected."""


class _NewerError(_WrongError):
    """The file has a later format."""


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _WrongError(f"duplicate key {key!r}")  # as a merge leaves it that kept both sides
        found[key] = value
    return found


def _conflict(text: str) -> int:
    """Return the number of the first line that is a mark of a conflict, or 0."""
    lines = text.splitlines()
    return next((n for n, line in enumerate(lines, 1) if line.startswith(_CONFLICT_MARKS)), 0)


def _advice() -> str:
    update = command("kernels.update")
    return f"Restore it from git; or remove {FILE_NAME}, and `{update}` writes it again."
