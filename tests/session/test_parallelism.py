"""How many machines run at once, and in which order they start."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session import parallelism
from bpfmatrix.session.preparation import Prepared

RUN = KernelRun("x", Outcome.PASSED)


def machines(**memory_mb: int) -> list[Prepared]:
    """Return machines with these ids and sizes, as far as `parallelism` looks at them."""
    found: list[Any] = [
        SimpleNamespace(
            kernel=SimpleNamespace(id=id), spec=SimpleNamespace(memory_bytes=size << 20)
        )
        for id, size in memory_mb.items()
    ]
    return cast(list[Prepared], found)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets the number of cores and the available memory of the host."""

    def has(cores: int, available_mb: int) -> None:
        meminfo = tmp_path / "meminfo"
        meminfo.write_text(
            f"MemTotal: 99999999 kB\nMemAvailable:   {available_mb << 10} kB\nBuffers: 1 kB\n"
        )
        monkeypatch.setattr(parallelism, "_MEMINFO", meminfo)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))

    return has


@pytest.mark.parametrize(
    ("cores", "available_mb", "expected"),
    [
        (2, 24_000, 2),  # one for each core
        (16, 24_000, 16),
        (16, 2_000, 3),  # (512 + 100) MB each
        (4, 1_000, 1),
        (4, 100, 1),  # always at least one
    ],
)
def test_cores_and_memory_limit_the_number_of_machines(
    host: Any, cores: int, available_mb: int, expected: int
) -> None:
    host(cores, available_mb)
    assert parallelism.machines_at_once(machines(a=512, b=512, c=256)) == expected


def test_the_largest_machine_counts(host: Any) -> None:
    host(8, 4_500)
    assert parallelism.machines_at_once(machines(a=512, b=2048)) == 2
    assert parallelism.machines_at_once(machines(a=512, b=512)) == 7


def test_without_proc_meminfo_only_cores_count(
    host: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host(3, 1)
    monkeypatch.setattr(parallelism, "_MEMINFO", tmp_path / "nowhere")
    assert parallelism.machines_at_once(machines(a=512)) == 3


def order(project: Project, *ids: str) -> list[str]:
    ready = machines(**dict.fromkeys(ids, 512))
    found = sorted(ready, key=lambda one: parallelism.start_order(project.results, one))
    return [prepared.kernel.id for prepared in found]


def took(project: Project, id: str, seconds: float) -> None:
    files.write(replace(RUN, kernel=id, seconds=seconds), project.results / f"{id}.json")


def test_the_slowest_kernel_of_the_last_runs_starts_first(library_project: Project) -> None:
    for id, seconds in {"a": 1.0, "b": 5.0, "c": 3.0}.items():
        took(library_project, id, seconds)
    assert order(library_project, "a", "b", "c") == ["b", "c", "a"]


def test_kernels_that_never_ran_start_before_all_others(library_project: Project) -> None:
    took(library_project, "a", 100.0)
    assert order(library_project, "a", "new", "newer") == ["new", "newer", "a"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 99}'])
def test_an_unreadable_result_counts_as_none(library_project: Project, text: str) -> None:
    took(library_project, "a", 1.0)
    (library_project.results / "b.json").write_text(text)
    assert order(library_project, "a", "b") == ["b", "a"]
