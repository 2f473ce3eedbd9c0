"""A Go module of many small packages, whose tests `go test` runs on the host and in guests."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench_project import BenchProject

__all__ = ["PACKAGES", "make_module", "seconds"]

PACKAGES = 30

_TEST = """package {name}

import "testing"

func TestNothing(t *testing.T) {{}}
"""


def make_module(bench: BenchProject) -> Path:
    """Write the module, and return its folder."""
    root = bench.root / "packages"
    root.mkdir()
    (root / "go.mod").write_text("module example.com/packages\n\ngo 1.21\n")
    for number in range(PACKAGES):
        name = f"p{number:02}"
        (root / name).mkdir()
        (root / name / f"{name}_test.go").write_text(_TEST.format(name=name))
    return root


def seconds(module: Path, *exec_words: str) -> float:
    """Run the tests of all packages, in guests if there are words for `bpfmatrix exec`."""
    program = [sys.executable, "-m", "bpfmatrix", "exec", *exec_words]
    through = ["-exec", shlex.join(program)] if exec_words else []
    started = time.monotonic()
    done = subprocess.run(
        ["go", "test", "-count=1", *through, "./..."],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    taken = time.monotonic() - started
    if done.returncode != 0:
        raise SystemExit(f"go test failed:\n{done.stdout}")
    return taken
