"""The file kernels.lock, beside kernels.yaml: what each id resolved to, for users to commit.

`invoke kernels.update` writes it. Where an id has an entry, a `Pin`, exactly that kernel runs, on
every machine. The file is JSON, which is read in a fraction of a millisecond, at each run; each
value has a line of its own, and kernels have the order of their ids, so that git can merge changes
of different kernels.
"""

import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field

from bpfmatrix.config.value_types import Arch, Digest, Sha256
from bpfmatrix.errors import ConfigError, suggestion
from bpfmatrix.host import versions
from bpfmatrix.host.checksum import sha256

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["FILE_NAME", "Package", "Pin", "exists", "read", "write"]

FILE_NAME = "kernels.lock"
FORMAT = 1
_FORBID = ConfigDict(extra="forbid")
# What git writes around the two sides of a conflict (git-merge(1), "How conflicts are presented").
_CONFLICT_MARKS = ("<<<<<<< ", "=======", ">>>>>>> ")


@dataclass(frozen=True)
class Package:
    """One file that a kernel was taken from."""

    __pydantic_config__ = _FORBID
    name: str
    version: str
    sha256: Sha256
    """The checksum of the file, as the source's signed index has it and as it was verified. Of an
    image of a registry, that of its manifest."""


@dataclass(frozen=True)
class Pin:
    """What one id is pinned to."""

    __pydantic_config__ = _FORBID
    arch: Arch
    source: Mapping[str, Any]
    """The source in kernels.yaml that this came from."""
    version: str
    """The upstream release: `6.1.192`."""
    release: str
    """What `uname -r` says."""
    digest: Digest
    """Of vmlinuz, as in `KernelImage.digest`."""
    files: Digest
    """Of the configuration and the modules: see `KernelImage.files_digest`."""
    origin: str
    """The source as results name it, such as `apt bookworm-security`."""
    vendor: str
    """The distributor of the packages; empty if the source names none."""
    packages: Annotated[tuple[Package, ...], Field(min_length=1)]
    """What the kernel was taken from."""

    @property
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
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: can't be read: {error}", _advice()) from error
    return dict(_parsed(path, text))


@functools.lru_cache(maxsize=8)
def _parsed(path: Path, text: str) -> Mapping[str, Pin]:
    # A matrix looks for the pin of each of its kernels.
    try:
        data = json.loads(text, object_pairs_hook=_without_duplicates)
    except _DuplicateKeyError as error:
        raise ConfigError(f"{path.name}: duplicate key {error}", _advice()) from error
    except json.JSONDecodeError as error:
        if line := _conflict(text):
            raise ConfigError(
                f"{path.name}: line {line}: the file has the conflict markers of a git merge",
                "Keep one side: `git checkout --ours kernels.lock`, or `--theirs`.",
            ) from error
        raise ConfigError(f"{path.name}: line {error.lineno}: {error.msg}", _advice()) from error
    except RecursionError as error:
        raise ConfigError(f"{path.name}: can't be read as JSON: {error}", _advice()) from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise ConfigError(
            f"{path.name}: format: expected {FORMAT}, found {found!r}",
            f"Another version of bpfmatrix wrote it: upgrade, or else: {_advice()}"
            if isinstance(found, int)
            else _advice(),
        )
    return _validated(path, data)


def _validated(path: Path, data: Mapping[str, Any]) -> Mapping[str, Pin]:
    from pydantic import ValidationError  # noqa: PLC0415 - off the start-up path

    if unknown := sorted(data.keys() - {"format", "kernels"}):
        near = suggestion(unknown[0], ["kernels"])
        raise ConfigError(f"{path.name}: {unknown[0]}: unknown key{near}", _advice())
    try:
        return _adapter().validate_python(data.get("kernels"))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in ("kernels", *problem["loc"]))
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "unexpected_keyword_argument":
            what = "unknown key"
        elif problem["type"] in ("missing", "missing_argument"):
            what = "the key is missing"
        raise ConfigError(f"{path.name}: {where}: {what}", _advice()) from error


@functools.cache
def _adapter() -> "TypeAdapter[dict[str, Pin]]":
    from pydantic import TypeAdapter  # noqa: PLC0415 - off the start-up path

    return TypeAdapter(dict[str, Pin])


def write(root: Path, pins: Mapping[str, Pin]) -> None:
    """Write kernels.lock; the caller holds a lock, so that no other process's pins are lost."""
    path = root / FILE_NAME
    ordered = sorted(pins, key=lambda id: (versions.all_numbers(id), id))
    data = {"format": FORMAT, "kernels": {id: asdict(pins[id]) for id in ordered}}
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        half.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be written ({error.strerror})", "Let this user write into its folder."
        ) from error
    finally:
        half.unlink(missing_ok=True)


class _DuplicateKeyError(ValueError):
    """A key is there twice, as after a merge that kept both sides."""


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(repr(key))
        found[key] = value
    return found


def _conflict(text: str) -> int:
    """Return the number of the first line that is a mark of a conflict, or 0."""
    lines = text.splitlines()
    return next((n for n, line in enumerate(lines, 1) if line.startswith(_CONFLICT_MARKS)), 0)


def _advice() -> str:
    return (
        f"Restore it from git; or remove {FILE_NAME}, and `invoke kernels.update` writes it anew."
    )
