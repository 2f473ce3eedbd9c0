"""`invoke sweep` on real kernels: one whose image is replaced, and one that stays as it is."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from bpfmatrix import kernels
from bpfmatrix.config.project import Project
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload import ebpf
from tests.tool import REPOSITORY, Finished, ToolProject, wait_until

pytestmark = pytest.mark.integration


def put(kernel: str, folder: Path) -> str:
    """Put a kernel of this repository's kernels.yaml into a folder; return its version."""
    ours = Project.load(REPOSITORY)
    image, _ = kernels.provide(ours.config.kernel(kernel), ours.cache)
    assert image.modules
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(image.modules, folder / "lib/modules" / image.release)
    shutil.copy(image.vmlinuz, folder / "vmlinuz")
    return image.version


@pytest.fixture
def two(project: ToolProject) -> ToolProject:
    """A project with two kernels in folders, a test that 5.10 fails, and one eBPF object."""
    objects = {path.name: path for path in ebpf.objects(Project.load(REPOSITORY)).files}
    shutil.copy(objects["bounded_loops.bpf.o"], project.root / "loops.bpf.o")
    project.script("has-loops", "echo looking for it\nexec grep -qw bpf_loop /proc/kallsyms")
    project.script("runs-anywhere", "true")
    data = {
        "payload": {"ebpf": None, "go": None, "binaries": ["has-loops", "runs-anywhere"]},
        "verify": {"objects": [{"path": "loops.bpf.o"}]},
        "expect": [{"test": "has-loops", "kernels": ["old"], "reason": "it came with 5.17"}],
        "kernels": {id: {"source": {"directory": id}} for id in ("stable", "old")},
    }
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return project


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache for the images of this test, with what bpfmatrix has built in the user's cache."""
    users, own = Cache.default().root, tmp_path / "own-cache"
    own.mkdir()
    for name in ("busybox", "guest-programs", "loader-sources", "loaders", "kvm-probe.json"):
        if (users / name).is_dir():
            shutil.copytree(users / name, own / name, symlinks=True)
        elif (users / name).exists():
            shutil.copy2(users / name, own / name)
    return own


def sweep(project: ToolProject, cache: Path, *words: str) -> Finished:
    return project.invoke("sweep", *words, env={"BPFMATRIX_CACHE": str(cache)})


def test_a_sweep_tells_what_a_newer_image_breaks(two: ToolProject, cache: Path) -> None:
    newer, older = put("6.1", two.root / "stable"), put("5.10", two.root / "old")
    first = sweep(two, cache)
    assert first.status == 0, first.output
    assert "2 kernels, the first sweep" in first.output
    assert f"stable  new: {newer}" in first.output
    assert first.output.endswith("no differences on 2 kernels\n")

    again = sweep(two, cache)
    assert again.status == 0, again.output
    assert "nothing new: stable, old" in again.output
    assert "nothing new since " in again.output

    put("5.10", two.root / "stable")
    broken = sweep(two, cache, "--json")
    assert broken.status == 1, broken.output
    log, _, told = broken.output.partition("{\n")
    report = json.loads("{" + told)
    assert f"stable  {newer} -> {older}" in log
    assert "nothing new: old" in log
    assert "passed before, failed now: exit status 1\n      looking for it\n" in log
    assert "invoke run --kernel stable --run has-loops" in log
    assert report["exit_status"] == 1
    assert [one["standing"] for one in report["kernels"]] == ["moved", "same"]
    found = {
        (one["kernel"], difference["effect"], difference["name"])
        for one in report["results"]
        for difference in one["differences"]
    }
    # The object says that it needs 5.17, so that its program is skipped on 5.10.
    assert found == {
        ("stable", "regression", "has-loops"),
        ("stable", "other", "sum_range"),
    }


def test_a_sweep_goes_on_where_one_was_interrupted(two: ToolProject, cache: Path) -> None:
    for id in ("stable", "old"):
        put("5.10", two.root / id)
    data = yaml.safe_load((two.root / "kernels.yaml").read_text())
    (two.root / "kernels.yaml").write_text(yaml.safe_dump({**data, "verify": {}}, sort_keys=False))
    two.script("has-loops", 'case "$(hostname)" in kernel-old) echo waits; sleep 600 ;; esac')
    two.script("runs-anywhere", "true")
    state = two.root / ".bpfmatrix/sweep"
    process = two.start("sweep", "--jobs", "1", env={"BPFMATRIX_CACHE": str(cache)})
    wait_until(lambda: list(state.glob("finished/tests/*.json")), "a result", seconds=600)
    os.kill(process.pid, signal.SIGINT)
    interrupted = two.finish(process)
    assert interrupted.status == 130, interrupted.output
    assert "the next sweep goes on from there" in interrupted.output
    assert not (state / "last").exists()

    rest = sweep(two, cache, "--kernels", "stable")
    assert rest.status == 0, rest.output
    assert "1 result of an interrupted sweep taken over" in rest.output
    assert rest.output.endswith("no differences on 1 kernel\n")
    assert [path.name for path in state.glob("last/*/*")] == ["stable.json"]
    assert not (state / "finished").exists()
