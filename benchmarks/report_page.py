"""How fast the HTML report opens: `python -m benchmarks.report_page FILES...`.

The files have results of `verify`. Those of a few kernels are taken as those of 50, and their
programs as 1,000 if there are fewer. The page is opened in Debian's Chromium, without a window.
Times count from the start of the navigation: until the first text is painted, and until the matrix
can be used.
"""

import argparse
import dataclasses
import itertools
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from bpfmatrix.report import html, inputs
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.report.origin import ReportOrigin
from bpfmatrix.results.verification import ProgramResult, Verification

KERNELS = 50
PROGRAMS = 1_000
_TIMES = """
const [paint] = performance.getEntriesByName("first-contentful-paint");
const [ready] = performance.getEntriesByName("ready");
return paint && ready ? [paint.startTime, ready.startTime] : null;
"""


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="files or folders of results")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    found = [
        result for result in inputs.read(options.files) if isinstance(result.run, Verification)
    ]
    matrix = Matrix.of(enlarged(found))
    origin = ReportOrigin(
        "benchmark", declared=frozenset(column.kernel for column in matrix.columns)
    )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(html.render(matrix, origin))
        size = page.stat().st_size
        times = measure(page, options.runs)
    paint, ready = (statistics.median(each) for each in zip(*times, strict=True))
    print(
        f"{len(matrix.columns)} kernels, {len(matrix.rows)} programs, {size / 1e6:.2f} MB: "
        f"first paint {paint:.0f} ms, ready {ready:.0f} ms (medians of {len(times)}; "
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f})"
    )


def enlarged(results: Sequence[Result]) -> list[Result]:
    """Return results of 50 kernels with 1,000 programs each, made from those of a few kernels."""
    return [
        dataclasses.replace(result, run=_as_kernel(result.run, number))
        for number, result in zip(range(KERNELS), itertools.cycle(results), strict=False)
        if isinstance(result.run, Verification)
    ]


def _as_kernel(run: Verification, number: int) -> Verification:
    version = f"{5 + number // 20}.{number % 20}.{number % 7 + 1}"
    programs: list[ProgramResult] = []
    for copy in itertools.count():
        more = run.programs[: PROGRAMS - len(programs)]
        folder = f"copy-{copy}/" if copy else ""
        programs += (dataclasses.replace(one, object=f"{folder}{one.object}") for one in more)
        if len(programs) == PROGRAMS:
            break
    kernel = version.rpartition(".")[0]
    return dataclasses.replace(run, kernel=kernel, version=version, programs=tuple(programs))


def measure(page: Path, runs: int) -> list[tuple[float, float]]:
    """Return the times of each run, in milliseconds; the browser's first page does not count."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
    driver: Any = webdriver.Chrome(options=options, service=service)
    try:
        times = []
        for _ in range(runs + 1):
            driver.get("about:blank")
            driver.get(page.as_uri())
            paint, ready = WebDriverWait(driver, 60).until(lambda d: d.execute_script(_TIMES))
            times.append((paint, ready))
        return times[1:]
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
