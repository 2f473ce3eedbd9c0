"""The Python script to profile: what is asked for, and the files that it needs in the guest."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import UsageError
from bpfmatrix.profile.recording import PYTHON_FOLDER, SCRIPTS_FOLDER

__all__ = ["Script", "ScriptRequest"]

# These flags of Python would hide the script's packages, or run something else than the script.
_REFUSED = {
    "E": "it ignores PYTHONPATH, by which the guest's Python finds the packages",
    "I": "it ignores PYTHONPATH, by which the guest's Python finds the packages",
    "c": "the code to run is a script or a module",
    "m": "the module to run is the value of --module",
    "i": "nobody can type anything in the guest",
    "h": "it runs nothing",
    "V": "it runs nothing",
}
_WITH_VALUE = "WXcm"


@dataclass(frozen=True)
class ScriptRequest:
    """What a user wants to run: a script or a module, with its arguments."""

    path: Path | None = None
    """The script; None for a module."""
    module: str = ""
    """The module that `python -m` would run; empty for a script."""
    arguments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Python's own flags, such as `-O` and `-X importtime`."""
    python: str | None = None
    """The name or path of the interpreter, on the host; None for the usual one."""

    def check(self) -> None:
        """UsageError unless there is one script or one module, and only flags that can be used."""
        if bool(self.path) == bool(self.module):
            raise UsageError(
                "profile-python runs a script or a module",
                "Name one of them: SCRIPT, or --module NAME.",
            )
        if self.path and not self.path.is_file():
            raise UsageError(f"{self.path}: no such script")
        if self.module and not all(part.isidentifier() for part in self.module.split(".")):
            raise UsageError(f"--module {self.module}: expected a module's name, such as pkg.tool")
        for letter in _letters(self.flags):
            if letter in _REFUSED:
                raise UsageError(f"--python-args: -{letter} can't be used: {_REFUSED[letter]}")

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path.name if self.path else self.module

    @property
    def optimize(self) -> int:
        """How often -O is among the flags: 0, 1 or 2."""
        return min(2, sum(letter == "O" for letter in _letters(self.flags)))


def _letters(flags: Sequence[str]) -> list[str]:
    """Return the letters of Python's flags; UsageError for what is no flag."""
    letters, waiting = [], False
    for word in flags:
        if waiting:
            waiting = False
            continue
        if not re.fullmatch(r"-[A-Za-z?].*", word):
            raise UsageError(
                f"--python-args: {word!r} is not a flag of Python",
                "Arguments of the script stand behind --.",
            )
        for position, letter in enumerate(word[1:], 1):
            letters.append(letter)
            if letter in _WITH_VALUE:
                waiting = position == len(word) - 1
                break
    if waiting:
        raise UsageError(f"--python-args: {flags[-1]} needs a value")
    return letters


@dataclass(frozen=True)
class Script:
    """A script or a module with all that it needs beside Python and its standard library."""

    request: ScriptRequest
    path: Path
    """The script; for a module, the path that a script of this name would have."""
    files: Mapping[str, Path]
    """The script, what it imports from its folder, and data, by their paths in that folder."""
    packages: Mapping[str, Path]
    """Packages and shared libraries, by their paths in the folder of the guest's Python."""

    @classmethod
    def of(cls, request: ScriptRequest, files: Mapping[str, Path]) -> "Script":
        """Return the script with these files, which have their paths in the payload."""

        def below(folder: str) -> dict[str, Path]:
            start = f"{folder}/"
            return {k.removeprefix(start): v for k, v in files.items() if k.startswith(start)}

        path = request.path.absolute() if request.path else Path.cwd() / request.module
        return cls(request, path, below(SCRIPTS_FOLDER), below(PYTHON_FOLDER))

    @property
    def words(self) -> tuple[str, ...]:
        """The words behind `python3`, in the guest."""
        script = f"/payload/{SCRIPTS_FOLDER}/{self.path.name}"
        run = [script] if self.request.path else ["-m", self.request.module]
        return (*self.request.flags, *run, *self.request.arguments)
