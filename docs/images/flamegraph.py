"""Makes flamegraph.png, the picture in profiling-python.md: `python docs/images/flamegraph.py`.

It profiles docs/examples/python on a kernel, and photographs the flame graph with Chromium. It
needs what `./bootstrap -s tests` installs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "examples/python"
SIZE = (1100, 490)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "primes")
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(".bpfmatrix"))
        program = str(Path(sys.executable).with_name("bpfmatrix"))
        words = ("--kernel", "6.1", "primes.py", "-o", "primes.svg", "--", "60000")
        subprocess.run([program, "profile-python", *words], cwd=copy, check=True)
        picture = copy / "flamegraph.png"
        chromium = ("chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu")
        subprocess.run(
            [
                *chromium,
                *(f"--window-size={SIZE[0]},{SIZE[1]}", f"--user-data-dir={folder}/chromium"),
                *(f"--screenshot={picture}", f"file://{copy}/primes.svg"),
            ],
            check=True,
        )
        shutil.copyfile(picture, HERE / "flamegraph.png")


if __name__ == "__main__":
    main()
