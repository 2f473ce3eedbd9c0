"""Makes report.png, the picture of a report in README: `python docs/images/report.py`.

It verifies the objects of docs/examples/questions on two kernels, and photographs the HTML page
with Chromium. It needs what `./bootstrap -s tests` installs.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "examples/questions"
SIZE = (1280, 800)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "execs")
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(".bpfmatrix", "__pycache__"))
        run("make", "--silent", folder=copy)
        # The page names commands in the form of the program that made it.
        run("bpfmatrix", "verify", folder=copy, may_fail=True)
        run("bpfmatrix", "report", "--output", "report.html", folder=copy)
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
