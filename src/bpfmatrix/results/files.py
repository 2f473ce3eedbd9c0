"""The files that results are kept in: one for each kernel, and the one that `--save` names.

`.bpfmatrix/results/<kernel>.json` holds one `KernelRun`, `.bpfmatrix/verify/<kernel>.json` one
`Verification`; a saved file is an object with `schema` and `verifications`, a list of them. Each
file is there as a whole or not at all.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.results import kernel_run, verification
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import GuestRun, Outcome
from bpfmatrix.results.verification import (
    Code,
    MapResult,
    ProgramResult,
    Statistics,
    Verification,
)

__all__ = [
    "parse_program",
    "parse_verification",
    "read_run",
    "read_saved",
    "read_verification",
    "save",
    "verification_folder",
    "verification_path",
    "write",
]


def verification_folder(project: Project) -> Path:
    """Return the folder of the verifications; each kernel's logs are in one below it."""
    return project.state / "verify"


def verification_path(project: Project, kernel: str) -> Path:
    """Return the file of a kernel's last verification."""
    return verification_folder(project) / f"{kernel}.json"


def write(result: GuestRun, path: Path) -> None:
    """Write the result of one kernel."""
    _write(dataclasses.asdict(result), path)


def read_run(path: Path) -> KernelRun:
    """Read a run of the tests; ValueError where it is of another schema or no result at all."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.get("schema") != kernel_run.SCHEMA:
        raise ValueError(f"{path.name}: no result of schema {kernel_run.SCHEMA}")
    tests = tuple(
        TestResult(**{**test, "outcome": Outcome(test["outcome"])}) for test in data["tests"]
    )
    data |= {"tests": tests, "outcome": Outcome(data["outcome"])}
    data |= {name: tuple(data.get(name, ())) for name in ("logs", "cores", "trace")}
    return KernelRun(**data)


def read_verification(path: Path) -> Verification:
    """Read one kernel's verification; ValueError where it is of another schema or none at all."""
    return parse_verification(json.loads(path.read_text(encoding="utf-8")), path.name)


def save(verifications: Iterable[Verification], path: Path) -> None:
    """Write the verifications of several kernels into one file."""
    whole = [dataclasses.asdict(one) for one in verifications]
    _write({"schema": verification.SCHEMA, "verifications": whole}, path)


def read_saved(path: Path) -> list[Verification]:
    """Read what `save` wrote, or one kernel's file; ValueError where it is neither."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(data, dict) and isinstance(data.get("verifications"), list):
        return [parse_verification(one, path.name) for one in data["verifications"]]
    return [parse_verification(data, path.name)]


def parse_verification(data: Any, name: str) -> Verification:
    """Make a verification of its JSON; ValueError, with the file's name, where it is none."""
    if not isinstance(data, dict) or data.get("schema") != verification.SCHEMA:
        raise ValueError(f"{name}: no verification of schema {verification.SCHEMA}")
    try:
        return Verification(
            **{
                **data,
                "outcome": Outcome(data["outcome"]),
                "programs": tuple(parse_program(one) for one in data["programs"]),
                "maps": tuple(MapResult(**one) for one in data["maps"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: no verification: {error}") from error


def parse_program(data: dict[str, Any]) -> ProgramResult:
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
