"""The files that verifications are kept in: one for each kernel, and `--save`'s with all of a run.

`.bpfmatrix/verify/<kernel>.json` holds one `Verification`; a saved one is an object with `schema`
and `verifications`, a list of them. Both are there as a whole or not at all.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.results.model import Outcome
from bpfmatrix.results.verification import (
    SCHEMA,
    Code,
    MapResult,
    ProgramResult,
    Statistics,
    Verification,
)

__all__ = ["folder", "parse", "path", "program", "read", "read_saved", "save", "write"]


def folder(project: Project) -> Path:
    """Return the folder of the verifications; each kernel's logs are in one below it."""
    return project.state / "verify"


def path(project: Project, kernel: str) -> Path:
    """Return the file of a kernel's last verification."""
    return folder(project) / f"{kernel}.json"


def write(verification: Verification, path: Path) -> None:
    """Write one kernel's verification."""
    _write(dataclasses.asdict(verification), path)


def read(path: Path) -> Verification:
    """Read one kernel's verification; ValueError where it is of another schema or none at all."""
    return parse(json.loads(path.read_text(encoding="utf-8")), path.name)


def save(verifications: Iterable[Verification], path: Path) -> None:
    """Write the verifications of several kernels into one file."""
    whole = [dataclasses.asdict(verification) for verification in verifications]
    _write({"schema": SCHEMA, "verifications": whole}, path)


def read_saved(path: Path) -> list[Verification]:
    """Read what `save` wrote, or one kernel's file; ValueError where it is neither."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(data, dict) and isinstance(data.get("verifications"), list):
        return [parse(one, path.name) for one in data["verifications"]]
    return [parse(data, path.name)]


def parse(data: Any, name: str) -> Verification:
    """Make a verification of its JSON; ValueError, with the file's name, where it is none."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"{name}: no verification of schema {SCHEMA}")
    try:
        return Verification(
            **{
                **data,
                "outcome": Outcome(data["outcome"]),
                "programs": tuple(program(one) for one in data["programs"]),
                "maps": tuple(MapResult(**one) for one in data["maps"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: no verification: {error}") from error


def program(data: dict[str, Any]) -> ProgramResult:
    """Make a program's result of its JSON; ValueError, KeyError or TypeError where it is none."""
    code = data.get("code")
    return ProgramResult(
        **{
            **data,
            "outcome": Outcome(data["outcome"]),
            "code": None if code is None else Code(code),
            "statistics": Statistics(**data.get("statistics", {})),
        }
    )


def _write(data: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
