"""The clocks of real guests: each CPU's delays, timers, eBPF programs and samples agree on time.

What measures them is the Go program `clocks/`.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.host.architecture import AARCH64, X86_64, Architecture
from tests.tool import NO_PAYLOAD, ToolProject, by_name

pytestmark = [pytest.mark.integration, pytest.mark.clocks]

HERE = Path(__file__).parent
# Ratios, of which 1 is right.
RIGHT = pytest.approx(1, abs=0.05)


def built(folder: Path, architecture: Architecture) -> Path:
    """Build the program `clocks`."""
    target = folder / "clocks"
    settings = {"GOARCH": architecture.go, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    subprocess.run(
        ["go", "build", "-o", target, "."],
        cwd=HERE / "clocks",
        env={**os.environ, **settings},
        check=True,
    )
    return target


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "6.18", "7.3", "6.1-arm64"])
def test_all_clocks_agree_on_each_cpu(
    project: ToolProject, tmp_path: Path, kernel: str, start: str
) -> None:
    architecture = AARCH64 if kernel.endswith("-arm64") else X86_64
    clocks = built(tmp_path, architecture)
    payload = {**NO_PAYLOAD, "files": {"clocks": str(clocks)}}
    project.configure([kernel], payload=payload, arch=architecture.name)
    done, run = project.run(
        project.script("measures", "/payload/clocks"),
        kernel=kernel,
        options=["--cold"] if start == "cold" else [],
    )
    assert done.status == 0, done.output
    assert run.start == start
    measured = json.loads(by_name(run)["measures"].output)
    assert measured["host_seconds"] >= 2
    assert measured["host"] == RIGHT
    assert [cpu.pop("cpu") for cpu in measured["cpus"]] == [0, 1]
    assert measured["cpus"] == [dict.fromkeys(("delay", "timer", "bpf", "perf"), RIGHT)] * 2
