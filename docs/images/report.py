"""Makes report.png, the picture of a report in README: `python docs/images/report.py`.

It verifies some objects of docs/examples/questions on four kernels, and photographs the HTML page
with Chromium. It needs what `./bootstrap -s tests` installs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "examples/questions"
SIZE = (1280, 600)
# What a run left there, and programs that would fill the picture with failures of other kinds.
LEFT_OUT = (".bpfmatrix", "__pycache__", "build", "loop.bpf.c", "fentry.bpf.c", "bloom.bpf.c")
# Between the two kernels that the project has.
MORE = """
  "6.1": {source: {apt: {suite: bookworm-security}}}
  "6.12": {source: {apt: {suite: trixie-security}}}"""


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "execs")
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        kernels = copy / "kernels.yaml"
        first = '"5.10": {source: {apt: {suite: bullseye-security}}}'
        kernels.write_text(kernels.read_text().replace(first, first + MORE))
        run("make", "--silent", folder=copy)
        program = str(Path(sys.executable).with_name("bpfmatrix"))
        run(program, "verify", folder=copy, may_fail=True)
        run(program, "report", "--output", "report.html", folder=copy)
        picture = copy / "report.png"
        run(
            *("chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"),
            *("--force-prefers-reduced-motion", f"--window-size={SIZE[0]},{SIZE[1]}"),
            *(f"--user-data-dir={folder}/chromium", f"--screenshot={picture}"),
            f"file://{copy}/report.html",
            folder=copy,
        )
        shutil.copyfile(picture, HERE / "report.png")


def run(*command: str, folder: Path, may_fail: bool = False) -> None:
    """Run a command; CalledProcessError if it fails, unless it may."""
    subprocess.run(command, cwd=folder, check=not may_fail)


if __name__ == "__main__":
    main()
