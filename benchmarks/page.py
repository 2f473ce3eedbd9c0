"""The report: a table for the terminal, JSON, and docs/performance.md with its plot."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cases import (
    BARE,
    EXEC_GO,
    GO_TEST,
    LARGE_BYTES,
    MACHINES,
    ONE,
    PLAIN_GO,
    VNG_FAILED,
    VNG_WORDS,
    WITH_FILES,
    WITHOUT_FILES,
)
from benchmarks.go_packages import PACKAGES
from benchmarks.repository import FILES, TREE_BYTES
from bpfmatrix import __version__
from bpfmatrix.host.architecture import X86_64

Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Host:
    """The host of the measurements."""

    cores: int
    memory_bytes: int
    cpu: str
    qemu: str
    python: str
    load: float
    """The load average of the minute before the measurements."""


def host() -> Host:
    """Describe this host."""
    words = _values(Path("/proc/cpuinfo"))
    version = subprocess.run(
        [X86_64.qemu, "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]
    return Host(
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=int(_values(Path("/proc/meminfo"))["MemTotal"].split()[0]) << 10,
        cpu=words.get("model name", platform.machine()),
        qemu=version.removeprefix("QEMU emulator version "),
        python=platform.python_version(),
        load=os.getloadavg()[0],
    )


def _values(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


@dataclass(frozen=True)
class Target:
    """A target and its measured value."""

    text: str
    limit: float
    measured: float
    unit: str = "s"
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the target was met."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def shown(self) -> tuple[str, str, str, str]:
        """The cells of the table: text, limit, measured value, and whether the target was met."""
        sign = "≥" if self.at_least else "≤"
        digits = 1 if self.at_least else 2
        return (
            self.text,
            f"{sign} {self.limit:.{digits}f} {self.unit}",
            f"{self.measured:.{digits}f} {self.unit}",
            "yes" if self.met else "**missed**",
        )


def targets(median: Mapping[str, float], cores: int) -> list[Target]:
    """Return the targets with their measured values."""
    own = median["the tests' own time"]
    gb = 1e9
    return [
        Target("empty static test, warm, from typing to verdict", 0.8, median[f"warm {ONE}"]),
        Target(
            "QEMU's share of that, from its start to its end",
            0.4,
            median[f"warm {ONE}: machine"],
        ),
        Target(
            "times faster than a bare QEMU booting the bzImage of 6.12",
            4,
            median["bare bzImage 6.12"] / median["warm 6.12"],
            "times",
            at_least=True,
        ),
        Target(
            f"a Go test binary of {LARGE_BYTES >> 20} MiB that loads one object, warm, minus its "
            "time in a running guest",
            0.6,
            median["large warm"] - median["large in a running guest"],
        ),
        Target(
            f"five kernels, all tests, warm, side by side: 1.15 times the tests' own time "
            f"({own:.1f} s) / {cores} cores + 1.5 s",
            1.15 * own / cores + 1.5,
            median["matrix, side by side"],
        ),
        Target("`nox -s pre-push`, nothing changed", 1.0, median["pre-push, nothing changed"]),
        Target("`invoke watch`, from save to verdict", 1.5, median["save to verdict"]),
        Target(
            f"proportional set size of {MACHINES} machines at once",
            0.75,
            median[f"memory of {MACHINES} (bytes)"] / gb,
            "GB",
        ),
        Target(
            f"`nox -s kernel-{ONE} -- --run {GO_TEST}`, warm, minus the time of a bare QEMU "
            "booting the same ELF",
            1.2,
            median["Go test warm"] - median[f"bare ELF {ONE}"],
        ),
        Target(
            f"`go test -exec 'bpfmatrix exec --kernel {ONE}'` over {PACKAGES} packages, each "
            "beyond its share of `go test` on the host",
            0.5,
            (median[EXEC_GO] - median[PLAIN_GO]) / PACKAGES,
        ),
        Target(
            f"{FILES} files of a repository, {TREE_BYTES >> 20} MB, in a warm run, beyond a run "
            "without them",
            0.15,
            median[WITH_FILES] - median[WITHOUT_FILES],
        ),
    ]


def medians(samples: Samples) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: statistics.median(values) for name, values in samples.items()}


def _shown(name: str, value: float) -> str:
    return f"{value / 1e6:.0f} MB" if name.endswith("(bytes)") else f"{value:.2f} s"


def print_table(console: Console, samples: Samples) -> None:
    """Print all figures."""
    table = Table(
        "measured", "median", "minimum", "maximum", "rounds", box=None, header_style="bold"
    )
    for name, values in samples.items():
        cells = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(_shown(name, value) for value in cells), str(len(values)))
    console.print(table)


def print_targets(console: Console, found: Sequence[Target]) -> None:
    """Print the targets, missed ones in red."""
    table = Table("target", "limit", "measured", "met", header_style="bold")
    for target in found:
        text, limit, measured, met = target.shown
        style = None if target.met else "red"
        table.add_row(text, limit, measured, met.strip("*"), style=style)
    console.print(table)


def write_json(path: Path, samples: Samples, on: Host, found: Sequence[Target]) -> None:
    """Write all measurements as JSON."""
    path.parent.mkdir(exist_ok=True)
    data: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "host": asdict(on),
        "samples": {name: list(values) for name, values in samples.items()},
        "medians": medians(samples),
        "targets": [asdict(target) | {"met": target.met} for target in found],
    }
    path.write_text(json.dumps(data, indent=1) + "\n")


_PAGE = """\
# Performance

`nox -s bench` measured version {version} on {date}: medians of {runs} rounds in which all cases
take turns. The host: {cores} cores ({cpu}), {memory:.0f} GB of memory, QEMU {qemu}, Python
{python}, emulation (no KVM); load average before: {load:.1f}. Builds, kernels and templates
existed beforehand. The figures are from one host; ratios carry over better than seconds.

## Targets

| target | limit | measured | met |
| --- | --- | --- | --- |
{targets}

## One kernel, from typing to verdict

`invoke run` with an empty shell script, compared with a bare QEMU (q35, no default devices) that
boots the same kernel to a shell that powers off at once.

![Seconds for each kernel](performance.svg)

| kernel | bare QEMU, bzImage | bare QEMU, ELF (PVH) | cold | warm | bzImage / warm |
| --- | --- | --- | --- | --- | --- |
{kernels}

{peer}

## Where the time of a warm run goes

Kernel {one}: the parts of one run, and `invoke run` as a whole:

| part | seconds |
| --- | --- |
{parts}

{floor}

## All figures

| measured | median | minimum | maximum |
| --- | --- | --- | --- |
{figures}
"""


def write_page(folder: Path, samples: Samples, on: Host, found: Sequence[Target]) -> None:
    """Write performance.md."""
    median = medians(samples)
    kernels = (
        (
            kernel,
            *(f"{median[f'{kind} {kernel}']:.2f} s" for kind in _KINDS),
            f"{median[f'bare bzImage {kernel}'] / median[f'warm {kernel}']:.1f} times",
        )
        for kernel in BARE
    )
    parts = {name: value for name, value in median.items() if name.startswith("part: ")}
    rows = [(name.removeprefix("part: "), f"{value:.3f}") for name, value in parts.items()]
    rest = median[f"warm {ONE}"] - sum(parts.values())
    rows += [
        ("invoke itself: imports, tasks, exit", f"{max(0.0, rest):.3f}"),
        (f"`invoke run --kernel {ONE}`", f"{median[f'warm {ONE}']:.3f}"),
    ]
    page = _PAGE.format(
        date=datetime.now(UTC).date(),
        version=__version__,
        runs=max(map(len, samples.values())),
        cores=on.cores,
        cpu=on.cpu,
        memory=on.memory_bytes / 1e9,
        qemu=on.qemu,
        python=on.python,
        load=on.load,
        targets=_rows(target.shown for target in found),
        kernels=_rows(kernels),
        peer=_peer(median),
        one=ONE,
        parts=_rows(rows),
        floor=_floor(median, parts, on.cores),
        figures=_rows(
            (name, *(_shown(name, f(values)) for f in (statistics.median, min, max)))
            for name, values in samples.items()
        ),
    )
    (folder / "performance.md").write_text(page)


_KINDS = ("bare bzImage", "bare ELF", "cold", "warm")


def _rows(rows: Any) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _peer(median: Mapping[str, float]) -> str:
    command = f"`vng -r VMLINUZ {' '.join(VNG_WORDS)}`"
    if "virtme-ng" in median:
        ratio = median["virtme-ng"] / median[f"warm {ONE}"]
        return (
            f"virtme-ng ({command}, with Debian's standard {ONE} package, since the cloud package "
            f"lacks 9p): {median['virtme-ng']:.1f} s, {ratio:.0f} times as long as a warm run."
        )
    if VNG_FAILED in median:
        return f"virtme-ng is installed, but {command} failed on this host."
    return "No peer was installed (virtme-ng is in pyproject.toml's group `bench`)."


def _floor(median: Mapping[str, float], parts: Mapping[str, float], cores: int) -> str:
    restore = parts["part: QEMU starts and restores the guest"]
    python = parts["part: Python starts"] + parts["part: imports"]
    listed = median["invoke -l"]
    large = median[f"warm {ONE}"]
    test = median["Go test warm: machine"] - restore
    kernels = 5  # of `matrix:` in kernels.yaml
    share = -(-kernels // cores) / kernels
    busiest = share * median["the tests' own time"]
    return (
        f"The lower bound: starting QEMU and restoring a guest takes {restore:.2f} s, Python and "
        f"its imports {python:.2f} s; `invoke -l`, which does only the latter, takes "
        f"{listed:.2f} s. A warm run can't beat the sum of restore and `invoke -l`, "
        f"{restore + listed:.2f} s.\n\n"
        f"Of the large Go test binary's run, {large:.2f} s are what any run takes; the rest is "
        "reading the binary, on the host and in a guest that never ran it.\n\n"
        f"From save to verdict, the test itself takes {test:.2f} s in a freshly restored guest; "
        "the rest is compiling the object and making the payload's image.\n\n"
        f"A machine is not split across cores: of {kernels} kernels with equally long tests, one "
        f"of {cores} cores gets {share:.0%}, which is {busiest:.1f} s of the tests' own time, plus "
        "the start of these machines."
    )


def write_plot(path: Path, samples: Samples) -> None:
    """Draw the seconds of each kernel, in colours readable on light and dark backgrounds."""
    import matplotlib as mpl  # noqa: PLC0415 - optional, and slow to import

    mpl.use("svg")
    from matplotlib import pyplot  # noqa: PLC0415

    median, grey = medians(samples), "#808080"
    settings = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), grey),
        **dict.fromkeys(("xtick.color", "ytick.color"), grey),
        "svg.hashsalt": "bpfmatrix",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
    }
    colours = ("#9aa5b1", "#5b8def", "#e08e45", "#2f9e62")
    with mpl.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(8, 3.6))
        height = 0.2
        for number, (kind, colour) in enumerate(zip(_KINDS, colours, strict=True)):
            places = [place + number * height for place in range(len(BARE))]
            values = [median[f"{kind} {kernel}"] for kernel in BARE]
            label = kind if kind.startswith("bare") else f"bpfmatrix, {kind}"
            bars = axes.barh(places, values, height, color=colour, label=label)
            axes.bar_label(bars, fmt="%.1f", padding=3, color=grey, fontsize=8)
        axes.set_yticks([place + 1.5 * height for place in range(len(BARE))], BARE)
        axes.invert_yaxis()
        axes.set_xlabel("seconds, less is better")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
