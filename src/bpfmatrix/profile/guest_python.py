"""The Python that a guest gets: an interpreter of the host, a script, and the script's packages.

The programs that find their files run under that interpreter: support/host_python.py and
support/host_script.py.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host import process
from bpfmatrix.payload import shipped
from bpfmatrix.profile.script import Script, ScriptRequest

__all__ = ["GuestPython"]


@dataclass(frozen=True)
class GuestPython:
    """A CPython of the host that the tracer supports."""

    python: Path
    """The file of the interpreter, that of the installation if it has a virtual environment."""
    version: tuple[int, int]
    start: tuple[str, ...]
    """The words that start it on the host."""
    with_packages: tuple[str, ...]
    """The words that start it with its packages: those of a virtual environment, if it has one."""

    @classmethod
    def choose(cls, named: str | None, arch: str) -> "GuestPython":
        """Return the interpreter that `named` or the environment says, or the first usable one.

        UsageError if what is said can't be used, BpfmatrixError if there is none.
        """
        said = named or os.environ.get("BPFMATRIX_PYTHON") or _of_virtual_environment()
        choose = [sys.executable, str(shipped.python_lister("host_python.py")), "--choose"]
        answer = _answer(
            [*choose, *([f"--python={said}"] if said else [])], {"BPFMATRIX_ARCH": arch}
        )
        if "what" in answer:
            what, advice = str(answer["what"]), str(answer["advice"])
            if not said:
                raise BpfmatrixError(what, advice)
            source = "--python: " if named else "BPFMATRIX_PYTHON: "
            if not named and not os.environ.get("BPFMATRIX_PYTHON"):
                source = "the active virtual environment: "
            raise UsageError(source + what, advice)
        major, minor = answer["version"]
        return cls(
            Path(answer["python"]),
            (major, minor),
            tuple(answer["start"]),
            tuple(answer["packages"]),
        )

    @property
    def loader(self) -> tuple[str, ...]:
        """The words that start the dynamic loader of the unpacked root that it lies in, if any."""
        return self.start[:-1]

    def listing(self, compiled: Path, optimize: int) -> list[str]:
        """Return the command for `payload.listed` that lists the interpreter and its library."""
        lister = str(shipped.python_lister("host_python.py"))
        words = ["--whole", f"--python={self.python}", *_compiling(compiled, optimize)]
        return [sys.executable, lister, *words]

    def script(self, request: ScriptRequest, compiled: Path) -> Script:
        """Return the files of a script or a module; UsageError if there is no such module."""
        words = _compiling(compiled, request.optimize)
        words += [f"--loader={word}" for word in self.loader]
        words += ["--module", request.module] if request.module else [str(request.path)]
        lister = str(shipped.python_lister("host_script.py"))
        answer = _answer([*self.with_packages, lister, *words], {"PYTHONDONTWRITEBYTECODE": "1"})
        if "error" in answer:
            raise UsageError(f"--module: {answer['error']}")
        return Script.of(request, {place: Path(p) for place, p in answer["files"].items()})


def _of_virtual_environment() -> str:
    """Return the interpreter of the virtual environment that is active; empty if none is."""
    folder = os.environ.get("VIRTUAL_ENV", "")
    python = Path(folder) / "bin/python"
    return str(python) if folder and python.exists() else ""


def _compiling(folder: Path, optimize: int) -> list[str]:
    return [f"--compiled={folder}", f"--optimize={optimize}"]


def _answer(command: list[str], env: dict[str, str]) -> dict[str, Any]:
    failure = f"{Path(command[0]).name} can't list the files of the script"
    answer: dict[str, Any] = json.loads(
        process.output(command, failure, env={**os.environ, **env})  # JSON of ASCII
    )
    return answer
