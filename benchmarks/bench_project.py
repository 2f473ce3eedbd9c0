"""A copy of this project to measure in, where the tool is run as a user runs it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
_COPIED = ("ebpf", "src", "support", "kernels.yaml")
_LIMIT_SECONDS = 900


@dataclass(frozen=True)
class BenchProject:
    """The copy's folder."""

    root: Path

    def script(self, name: str, text: str) -> str:
        """Write an executable script for the guest; return its name."""
        path = self.root / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return name

    def padded_test_binary(self, size_bytes: int) -> str:
        """Copy the Go test binary, padded to this size; return the copy's name."""
        source = next((self.root / ".bpfmatrix/build/amd64").rglob("*.test"))
        target = self.root / f"large-{source.name}"
        shutil.copy(source, target)
        with target.open("ab") as file:
            file.write(os.urandom(max(0, size_bytes - target.stat().st_size)))
        return target.name

    def seconds(self, module: str, *words: str) -> float:
        """Run `nox` or `invoke`; return its seconds. A failure ends the benchmark."""
        command = [sys.executable, "-m", module, *words]
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command[2:])} failed:\n{done.stdout}")
        return seconds

    def result(self, kernel: str) -> dict[str, Any]:
        """Return the JSON of the last run on a kernel."""
        text = (self.root / f".bpfmatrix/results/{kernel}.json").read_text()
        data: dict[str, Any] = json.loads(text)
        return data

    def start(self, words: Sequence[str], terminal: int) -> "subprocess.Popen[bytes]":
        """Start an invoke task in a process group of its own, its output on a terminal."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.root,
            env={**os.environ, "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )


@contextmanager
def bench_project() -> Iterator[BenchProject]:
    """Copy the project, so that measurements neither depend on nor change the checkout."""
    with tempfile.TemporaryDirectory(prefix="bpfmatrix-bench-") as folder:
        root = Path(folder)
        for name in _COPIED:
            source = REPOSITORY / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, root / name)
        (root / "tasks.py").write_text("from bpfmatrix.tasks import namespace as namespace\n")
        (root / "noxfile.py").write_text("from bpfmatrix.sessions import register\n\nregister()\n")
        yield BenchProject(root)
