"""`nox -s bench -- --runs 5`: measure all cases in turn, and write the results."""

import argparse
import importlib.util
import re
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import page
from benchmarks.bench_project import REPOSITORY, bench_project
from benchmarks.cases import cases


def main() -> None:
    """Measure and report. A missed target is shown, but is not an error."""
    parser = argparse.ArgumentParser(prog="nox -s bench --")
    parser.add_argument("--runs", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--only", default="", metavar="REGEX", help="only these; writes no files")
    parser.add_argument(
        "--output", type=Path, default=REPOSITORY / "docs", help="folder of the page"
    )
    words = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    on = page.host()
    samples: dict[str, list[float]] = {}
    with bench_project() as bench:
        console.print("building, fetching kernels, making templates", style="dim")
        bench.seconds("invoke", "kernels.fetch", "--warm")
        chosen = [case for case in cases(bench) if re.search(words.only, case.name)]
        # Round 0 does the work that is done only once. It is not counted.
        for number in range(words.runs + 1):
            where = f"round {number} of {words.runs}" if number else "first time, not counted"
            for case in (case for case in chosen if number <= case.most_rounds):
                console.print(f"{where}: {case.name}", style="dim")
                figures = case.measure()
                for name, value in figures.items() if number else ():
                    samples.setdefault(name, []).append(value)
    page.print_table(console, samples)
    if words.only:
        return
    found = page.targets(page.medians(samples), on.cores)
    page.print_targets(console, found)
    page.write_json(REPOSITORY / ".bpfmatrix/bench.json", samples, on, found)
    words.output.mkdir(exist_ok=True)
    page.write_page(words.output, samples, on, found)
    if importlib.util.find_spec("matplotlib"):
        page.write_plot(words.output / "performance.svg", samples)
    else:
        print("no plot: pip install matplotlib (pyproject.toml's group bench)", file=sys.stderr)


if __name__ == "__main__":
    main()
