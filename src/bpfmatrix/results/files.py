"""The JSON files of results: one file for each kernel, and the file of `verify --save`.

`.bpfmatrix/results/<kernel>.json` holds a `KernelRun`, and `.bpfmatrix/verify/<kernel>.json` a
`Verification`. A saved file is an object with the keys `schema` and `verifications`, a list. A file
is renamed into place when it is complete, so nobody reads half a file.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.host.whole_file import write_whole
from bpfmatrix.results import kernel_run, verification
from bpfmatrix.results.kernel_run import KernelRun, Leftover, Rejection, TestResult
from bpfmatrix.results.outcome import GuestRun, KernelWarning, Outcome
from bpfmatrix.results.verification import (
    Code,
    MapResult,
    ProgramResult,
    RefusedObject,
    Statistics,
    Verification,
)

__all__ = [
    "earlier_folder",
    "earlier_seconds",
    "is_interrupted_early",
    "parse_program",
    "parse_run",
    "parse_verification",
    "put_back",
    "read_earlier",
    "read_earlier_verification",
    "read_run",
    "read_verification",
    "save",
    "set_aside",
    "verification_folder",
    "verification_path",
    "write",
]


def verification_folder(project: Project) -> Path:
    """Return the folder of the verifications, with a folder for the logs of each kernel."""
    return project.state / "verify"


def verification_path(project: Project, kernel: str) -> Path:
    """Return the file of a kernel's last verification."""
    return verification_folder(project) / f"{kernel}.json"


def earlier_folder(path: Path) -> Path:
    """Return the folder in which a kernel's last result is kept while another run is prepared.

    `path` is the file of the kernel's result. The folder has the file `result`, and `logs`.
    """
    return path.with_name(f"{path.name.removesuffix('.json')}.earlier")


def set_aside(path: Path) -> None:
    """Move a kernel's result, and the folder of its logs, to where no report finds them.

    Until another result is written, the kernel has none. A result that says nothing but that the
    run was interrupted (`is_interrupted_early`) is removed, if there is one that was set aside
    before it. OSError if that is not possible.
    """
    logs, folder = _logs(path), earlier_folder(path)
    if (folder / "result").exists() and is_interrupted_early(path):
        path.unlink()
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(exist_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or logs.exists():
        folder.mkdir(exist_ok=True)
    # The result first: without it, logs are of no run.
    for there, name in ((path, "result"), (logs, "logs")):
        with contextlib.suppress(FileNotFoundError):
            there.rename(folder / name)
    logs.mkdir(exist_ok=True)  # `invoke logs --follow` waits for its files


def put_back(path: Path) -> None:
    """Undo `set_aside`, as no run began after it. OSError if that is not possible."""
    logs, folder = _logs(path), earlier_folder(path)
    shutil.rmtree(logs, ignore_errors=True)
    for name, there in (("logs", logs), ("result", path)):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).rename(there)
    shutil.rmtree(folder, ignore_errors=True)


def is_interrupted_early(path: Path) -> bool:
    """Whether the result in a file is of a run that Ctrl-C ended before it had a single row."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = data.get("tests") or data.get("programs")
        return data.get("outcome") == Outcome.INTERRUPTED and not rows
    except (OSError, ValueError, AttributeError):
        return False


def _logs(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json"))


def read_earlier(path: Path) -> KernelRun:
    """Read the result that was set aside, or else the last one. It raises what `read_run` does."""
    return read_run(_earlier(path))


def read_earlier_verification(path: Path) -> Verification:
    """Read the verification that was set aside, or else the last one.

    It raises what `read_verification` does.
    """
    return read_verification(_earlier(path))


def earlier_seconds(path: Path) -> float:
    """Return the duration of the run whose result `read_earlier` would read, of either kind.

    OSError, ValueError, KeyError or TypeError if it can't be read.
    """
    return float(json.loads(_earlier(path).read_text(encoding="utf-8"))["seconds"])


def _earlier(path: Path) -> Path:
    aside = earlier_folder(path) / "result"
    return aside if aside.exists() else path


def write(result: GuestRun, path: Path) -> None:
    """Write the result of one kernel to a file, whose folder is made if it is missing."""
    _write(dataclasses.asdict(result), path)


def read_run(path: Path) -> KernelRun:
    """Read a run of the tests.

    OSError if the file can't be read. ValueError, KeyError or TypeError if it has another schema or
    is no result.
    """
    return parse_run(json.loads(path.read_text(encoding="utf-8")), path.name)


def parse_run(data: Any, name: str) -> KernelRun:
    """Make a run of the tests from its JSON; `name` is the file's name, for an error.

    ValueError, KeyError or TypeError if it is none.
    """
    if not isinstance(data, dict) or data.get("schema") != kernel_run.SCHEMA:
        raise ValueError(f"{name}: no result of schema {kernel_run.SCHEMA}")
    tests = tuple(
        TestResult(**{**test, "outcome": Outcome(test["outcome"])}) for test in data["tests"]
    )
    data |= {"tests": tests, "outcome": Outcome(data["outcome"])}
    lists = ("logs", "cores", "dumps", "trace", "hints", "options")
    data |= {name: tuple(data.get(name, ())) for name in lists}
    data["leftovers"] = tuple(Leftover(**one) for one in data.get("leftovers", ()))
    data["rejections"] = tuple(Rejection(**one) for one in data.get("rejections", ()))
    data["warnings"] = _warnings(data)
    return KernelRun(**data)


def _warnings(data: dict[str, Any]) -> tuple[KernelWarning, ...]:
    return tuple(
        KernelWarning(**{**one, "lines": tuple(one["lines"])}) for one in data.get("warnings", ())
    )


def read_verification(path: Path) -> Verification:
    """Read the verification of one kernel.

    OSError if the file can't be read. ValueError if it has another schema or is no verification.
    """
    return parse_verification(json.loads(path.read_text(encoding="utf-8")), path.name)


def save(verifications: Iterable[Verification], path: Path) -> None:
    """Write the verifications of several kernels into one file."""
    whole = [dataclasses.asdict(one) for one in verifications]
    _write({"schema": verification.SCHEMA, "verifications": whole}, path)


def parse_verification(data: Any, name: str) -> Verification:
    """Make a verification from its JSON; ValueError, with the file's name, if it is none."""
    if not isinstance(data, dict) or data.get("schema") != verification.SCHEMA:
        raise ValueError(f"{name}: no verification of schema {verification.SCHEMA}")
    try:
        return Verification(
            **{
                **data,
                "outcome": Outcome(data["outcome"]),
                "dumps": tuple(data.get("dumps", ())),
                "programs": tuple(parse_program(one) for one in data["programs"]),
                "maps": tuple(MapResult(**one) for one in data["maps"]),
                "refused": tuple(
                    RefusedObject(**{**one, "code": Code(one["code"])})
                    for one in data.get("refused", ())
                ),
                "warnings": _warnings(data),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: no verification: {error}") from error


def parse_program(data: dict[str, Any]) -> ProgramResult:
    """Make the result of a program from its JSON.

    ValueError, KeyError or TypeError if it is none.
    """
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
    write_whole(path, (json.dumps(data, indent=1) + "\n").encode())
