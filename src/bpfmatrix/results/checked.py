"""Results in files of others, such as saved ones and artifacts of CI: each value is checked."""

import functools
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bpfmatrix.results import kernel_run, verification
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.verification import Verification

__all__ = ["checked", "checked_verification", "load_json", "read_saved"]


def load_json(text: str | bytes) -> Any:
    """Return what a text in JSON says; ValueError if it is none, or too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def checked(data: Any) -> KernelRun | Verification:
    """Make a result from its JSON; ValueError if a value is missing or has a wrong type."""
    is_verification = isinstance(data, dict) and "programs" in data
    schema = verification.SCHEMA if is_verification else kernel_run.SCHEMA
    if not isinstance(data, dict) or data.get("schema") != schema:
        raise ValueError(f"it is not of schema {schema}")
    try:
        # Unknown keys are ignored, as a newer version may have added some.
        result: KernelRun | Verification = _adapter(
            Verification if is_verification else KernelRun
        ).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        kind = "is missing" if first["type"] == "missing" else "can't have this value"
        raise ValueError(f"{where} {kind}") from None
    return result


def checked_verification(data: Any) -> Verification:
    """Make a verification from its JSON; ValueError if it is none."""
    result = checked(data)
    if not isinstance(result, Verification):
        raise ValueError("it is a run of tests, and no verification")
    return result


def read_saved(path: Path) -> list[Verification]:
    """Read a file that `files.save` wrote, or the file of one kernel.

    OSError if the file can't be read. ValueError if it is neither.
    """
    data = load_json(path.read_text(encoding="utf-8"))
    if isinstance(data, dict) and isinstance(data.get("verifications"), list):
        return [checked_verification(one) for one in data["verifications"]]
    return [checked_verification(data)]


@functools.cache
def _adapter(model: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model)
