"""Measures `bytecode-lines resolve` on uniform samples, which no cache of recent results helps.

    python benchmarks/resolve.py --folder /tmp/bench --samples 1000000 PYTHON...

Each Python compiles its standard library. All that goes into one index, whose code objects are
sampled uniformly, each at a uniform offset. It prints the median time, the CPU time, and the peak
memory of the command. The folder is kept, and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
LIBRARY = "import os; print(os.path.dirname(os.__file__))"


def main() -> None:
    """Make what is missing, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="have the command write JSON")
    parser.add_argument("pythons", metavar="PYTHON", nargs="*")
    arguments = parser.parse_args()
    index, samples = arguments.folder / "index", arguments.folder / "samples.jsonl"
    if not index.exists():
        make_index(arguments.pythons, arguments.folder, index)
    if not samples.exists():
        write_samples(index, samples, arguments.samples)
    words = ["resolve", *(["--json"] if arguments.json else []), "-i", str(index), str(samples)]
    runs = [run(words) for _ in range(arguments.runs)]
    wall, cpu, peak = (statistics.median(values) for values in zip(*runs))
    print(f"{arguments.samples} samples: {wall:.1f} s, {cpu:.1f} s of CPU, {peak:.0f} MB")


def make_index(pythons: list[str], folder: Path, index: Path) -> None:
    """Compile the libraries of these Pythons into the folder, and index what they made."""
    for python in pythons:
        done = subprocess.run([python, "-c", LIBRARY], capture_output=True, text=True, check=True)
        library = done.stdout.strip()
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
        # It ends with 1, as some files of the tests are no Python on purpose.
        subprocess.run(
            [*(python, "-W", "ignore", "-m", "compileall", "-qq", "-x", "site-packages"), library],
            env=environment,
            check=False,
        )
    run(["index", str(folder / "compiled"), "-o", str(index)])


def write_samples(index: Path, path: Path, count: int) -> None:
    """Write samples of all code objects of an index, the same ones each time."""
    database = sqlite3.connect(index)
    codes = database.execute("SELECT identity, code_bytes FROM codes ORDER BY rowid").fetchall()
    print(f"{len(codes)} code objects")
    chosen = random.Random(0)
    with path.open("w") as file:
        for _ in range(count):
            identity, length = chosen.choice(codes)
            offset = chosen.randrange(0, length, 2)
            file.write(json.dumps({"identity": identity, "offset": offset}) + "\n")


def run(words: list[str]) -> tuple[float, float, float]:
    """Run the command; return its seconds, its seconds of CPU, and its peak memory in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bytecode_lines", *words],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    cpu = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - begin, cpu, usage.ru_maxrss / resource_unit()


def resource_unit() -> int:
    """Return what `ru_maxrss` counts in a MB: bytes on macOS, KB elsewhere."""
    return 1_000_000 if sys.platform == "darwin" else 1_000


if __name__ == "__main__":
    main()
