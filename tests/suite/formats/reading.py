"""Feeds outputs to the reader of a format, as a recorder does, and runs executables for them."""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bpfmatrix.payload.model import Executable, Format
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats import End, reader

PASSED = End(Outcome.PASSED, status=0)


def exited(status: int) -> End:
    """Return the end of an executable that exited with a status which is not 0."""
    return End(Outcome.FAILED, f"exit status {status}", status)


FAILED = exited(1)
TIMEOUT = End(Outcome.TIMEOUT, "ran into its limit", 137)
PANIC = End(Outcome.PANIC, "sysrq")


def read(
    format: Format,
    output: bytes,
    end: End = PASSED,
    *,
    chunk_bytes: int = 1000,
    report: bytes | None = None,
    path: Path = Path("/x/sample"),
    arguments: Sequence[str] = (),
    folder: Path | None = None,
) -> dict[str, TestResult]:
    """Return the results by their names; no two may have the same."""
    found: list[TestResult] = []

    async def feed() -> None:
        test = Executable(path, format, folder=folder)
        it = reader(test, (str(path), *arguments), found.append)
        await it.start()
        for start in range(0, len(output), chunk_bytes):
            await it.feed(output[start : start + chunk_bytes])
        if report is not None:
            it.feed_report(report)
        status = end.status if end.outcome is Outcome.FAILED else None
        skipped = status is not None and status == it.skip_status
        await it.close(End(Outcome.SKIPPED, end.reason, status) if skipped else end)
        it.kill()

    asyncio.run(feed())
    assert len({result.name for result in found}) == len(found), "two results have one name"
    return {result.name: result for result in found}


def run(
    argv: Sequence[str | Path], folder: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[bytes, End]:
    """Run an executable here; return its output, and how it ended."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    end = exited(status) if status else PASSED
    return done.stdout, end


def told(found: Mapping[str, TestResult]) -> dict[str, str]:
    """Return the outcome of each test, with its reason, and with why it was expected."""
    return {
        name: " | ".join(filter(None, (str(one.outcome), one.reason, one.expected)))
        for name, one in found.items()
    }
