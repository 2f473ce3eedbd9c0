"""Results that are still true: which are kept, and what makes one untrue."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bpfmatrix import __version__
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.payload.model import Payload
from bpfmatrix.results import cache, files
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.host_files import HostFilesPlan
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.suite import fingerprint
from bpfmatrix.virtiofs.shares import HostFolder
from bpfmatrix.vm.accelerator import Accelerator
from bpfmatrix.vm.launch import MachineSpec
from bpfmatrix.vm.protocol import TestCommand
from tests.tool import Finished, ToolProject, plain_environment

RUN = KernelRun(
    "6.1",
    Outcome.PASSED,
    release="6.1.0-56-cloud-amd64",
    started_at="2026-01-01T00:00:00+00:00",
    tests=(TestResult("a", "a", Outcome.PASSED, 0.1),),
    tool_version=__version__,
)


@dataclass(frozen=True)
class PreparedRun:
    """A prepared kernel with the commands that it is given, each with its test's name."""

    prepared: Prepared
    commands: tuple[tuple[str, TestCommand], ...]


def recall(project: Project, run: PreparedRun) -> KernelRun | None:
    key = fingerprint.fingerprint(run.prepared, run.commands)
    return cache.recall(project, key) if key else None


def remember(project: Project, run: PreparedRun, result: KernelRun) -> None:
    if key := fingerprint.fingerprint(run.prepared, run.commands):
        cache.remember(project, key, result)


@pytest.fixture
def prepared(library_project: Project, tmp_path: Path) -> PreparedRun:
    for name in ("qemu", "payload"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o755)
    image = KernelImage(
        arch="x86_64",
        release="6.1.0-56-cloud-amd64",
        version="6.1.192",
        digest="sha256:00",
        boot=Path("/kernels/6.1/vmlinux"),
        pvh=True,
        vmlinuz=Path("/kernels/6.1/vmlinuz"),
        modules=None,
        provenance=Provenance("apt bookworm-security", ()),
    )
    spec = MachineSpec(
        qemu=str(tmp_path / "qemu"),
        arch="x86_64",
        accelerator="tcg",
        cpus=2,
        memory_bytes=512 << 20,
        boot=image.boot,
        initramfs=Path("/initramfs/0.cpio"),
        payload=tmp_path / "payload",
    )
    ready = Prepared(
        library_project.config.kernel("6.1"),
        image,
        Accelerator("tcg"),
        spec,
        payload=Payload(()),
        payload_id="0123",
        env={"A": "b"},
        host_files=HostFilesPlan(),
    )
    return PreparedRun(ready, (("payload", TestCommand(1, ("/payload/payload",), 120.0)),))


def test_what_passed_is_recalled_as_cached(library_project: Project, prepared: PreparedRun) -> None:
    assert recall(library_project, prepared) is None
    remember(library_project, prepared, RUN)
    assert recall(library_project, prepared) == replace(RUN, cached=True)


def test_what_is_recalled_is_the_last_result(
    library_project: Project, prepared: PreparedRun
) -> None:
    path = library_project.results / "6.1.json"
    log = library_project.results / "6.1/a.log"
    log.parent.mkdir(parents=True)
    log.write_text("of the run that passed")
    run = replace(RUN, console="6.1/console.log", logs=("6.1/a.log",))
    remember(library_project, prepared, run)
    files.write(run, path)
    for _ in range(2):
        assert recall(library_project, prepared) == replace(run, cached=True)
        assert files.read_run(path) == replace(run, cached=True)
        assert log.exists()

    # Of another run on this kernel, with other tests.
    files.write(replace(run, outcome=Outcome.FAILED, started_at="2026-01-02"), path)
    for _ in range(2):
        assert recall(library_project, prepared) == replace(RUN, cached=True)
        assert files.read_run(path) == replace(RUN, cached=True)
        assert not log.exists()


def test_the_boundary_of_an_output_is_another_each_time_and_does_not_count(
    library_project: Project, prepared: PreparedRun
) -> None:
    remember(library_project, prepared, RUN)
    [(test, command)] = prepared.commands
    again = replace(prepared, commands=((test, replace(command, boundary=b"x" * 32)),))
    assert recall(library_project, again) is not None


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.PASSED])
def test_what_did_not_pass_is_never_kept(
    library_project: Project, prepared: PreparedRun, outcome: Outcome
) -> None:
    remember(library_project, prepared, replace(RUN, outcome=outcome))
    assert recall(library_project, prepared) is None


def spec(**other: Any) -> Callable[[PreparedRun], PreparedRun]:
    return lambda run: with_prepared(run, spec=replace(run.prepared.spec, **other))


def with_prepared(run: PreparedRun, **other: Any) -> PreparedRun:
    return replace(run, prepared=replace(run.prepared, **other))


def command(**other: Any) -> Callable[[PreparedRun], PreparedRun]:
    def changed(prepared: PreparedRun) -> PreparedRun:
        [(test, command)] = prepared.commands
        return replace(prepared, commands=((test, replace(command, **other)),))

    return changed


def timeout(**other: str) -> Callable[[PreparedRun], PreparedRun]:
    config = Config.model_validate(
        {"kernels": {"6.1": {"source": {"oci": "example/6.1"}, "timeout": other}}}
    )
    return lambda prepared: with_prepared(prepared, kernel=config.kernel("6.1"))


def expecting(**expectation: str) -> Callable[[PreparedRun], PreparedRun]:
    config = Config.model_validate(
        {"kernels": {"6.1": {"source": {"oci": "example/6.1"}}}, "expect": [expectation]}
    )
    return lambda prepared: with_prepared(prepared, kernel=config.kernel("6.1"))


def test_what_is_no_longer_expected_does_not_count(
    library_project: Project, prepared: PreparedRun
) -> None:
    remember(library_project, prepared, RUN)
    past = expecting(test="a", reason="known", until="2020-01-01")
    assert recall(library_project, past(prepared)) is not None


CHANGES: dict[str, Callable[[PreparedRun], PreparedRun]] = {
    "payload": lambda prepared: with_prepared(prepared, payload_id="4567"),
    "argument": command(argv=("/payload/payload", "-v")),
    "limit": command(limit_seconds=60.0),
    "env": lambda prepared: with_prepared(prepared, env={"A": "c"}),
    "no env": lambda prepared: with_prepared(prepared, env={}),
    "one test more": lambda prepared: replace(prepared, commands=prepared.commands * 2),
    "no test": lambda prepared: replace(prepared, commands=()),
    "kernel": spec(boot=Path("/kernels/6.1-other/vmlinux")),
    "initramfs": spec(initramfs=Path("/initramfs/1.cpio")),
    "kernel_args": spec(kernel_args=("quiet",)),
    "extra_args": spec(extra_args=("-no-hpet",)),
    "memory": spec(memory_bytes=1 << 30),
    "cpus": spec(cpus=1),
    "accelerator": spec(accelerator="kvm"),
    "timeout.run": timeout(run="10s"),
    "timeout.boot": timeout(boot="10s"),
    "expect": expecting(test="a", reason="known"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_anything_that_shapes_a_run_makes_it_untrue(
    library_project: Project, prepared: PreparedRun, change: Callable[[PreparedRun], PreparedRun]
) -> None:
    remember(library_project, prepared, RUN)
    assert recall(library_project, change(prepared)) is None
    assert recall(library_project, prepared) is not None


def test_another_qemu_makes_it_untrue(library_project: Project, prepared: PreparedRun) -> None:
    remember(library_project, prepared, RUN)
    os.utime(prepared.prepared.spec.qemu, (0, 0))
    assert recall(library_project, prepared) is None


def test_another_version_of_the_tool_makes_it_untrue(
    library_project: Project, prepared: PreparedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(library_project, prepared, RUN)
    monkeypatch.setattr(fingerprint, "__version__", "99")
    assert recall(library_project, prepared) is None


@pytest.mark.parametrize("name", ["run.py", "guest/init"])
def test_other_code_of_the_tool_makes_it_untrue(
    library_project: Project,
    prepared: PreparedRun,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    package = tmp_path / "package"
    (package / "guest").mkdir(parents=True)
    (package / name).write_text("")
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    remember(library_project, prepared, RUN)
    os.utime(package / name, (0, 0))
    # The guest's own script is in the initramfs, which is named by its content.
    assert (recall(library_project, prepared) is None) is name.endswith(".py")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 0}', "\0"])
def test_a_damaged_one_is_not_recalled(
    library_project: Project, prepared: PreparedRun, text: str
) -> None:
    remember(library_project, prepared, RUN)
    [kept] = (library_project.state / "passed").iterdir()
    kept.write_text(text)
    assert recall(library_project, prepared) is None


def test_only_so_many_are_kept(
    library_project: Project, prepared: PreparedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_KEPT_FILES", 3)
    many = [with_prepared(prepared, payload_id=str(number)) for number in range(5)]
    for age, one in enumerate(many):
        remember(library_project, one, RUN)
        folder = library_project.state / "passed"
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (time.time() - 100 + age,) * 2)
    known = [recall(library_project, one) is not None for one in many]
    assert known == [False, False, True, True, True]


# As one types it


def nox(project: ToolProject, *words: str) -> Finished:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "nox", *words],
        cwd=project.root,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return Finished(done.returncode, done.stdout, time.monotonic() - started)


def ran(project: ToolProject, *words: str) -> bool:
    """Run pre-push, which has to pass; tells whether a machine was started for it."""
    done = nox(project, "-s", "pre-push", *words)
    assert done.status == 0, done.output
    assert project.result().outcome is Outcome.PASSED
    assert ("(cached" in done.output) is ("boot " not in done.output), done.output
    assert project.result().cached is ("(cached" in done.output)
    return "boot " in done.output


@pytest.mark.integration
def test_pre_push_runs_only_what_changed(project: ToolProject) -> None:
    project.script("fine", "true")
    project.configure(payload={"ebpf": "ebpf", "go": None, "binaries": ["fine"]})
    folder = project.root / "ebpf"
    folder.mkdir()
    # An object is what a Makefile leaves; the guest's test does not look at it here.
    (folder / "x.txt").write_text("one")
    (folder / "Makefile").write_text(
        "x.o: x.txt\n\tcp x.txt x.o\n\techo 'x.o: x.txt' >x.d\n.PHONY: clean\nclean:\n\trm -f x.o\n"
    )
    assert ran(project)
    assert not ran(project)
    assert not ran(project)
    assert ran(project, "--", "--fresh")
    assert not ran(project)
    # What is declared otherwise for one kernel of many kernels is not asked again either.
    assert nox(project, "-s", "kernel-6.1").output.count("boot ") == 1

    (folder / "x.txt").write_text("two")
    assert ran(project)
    assert ran(project, "--", "--", "-argument")
    assert ran(project, "--", "--timeout", "30s")
    project.script("fine", "true # changed")
    assert ran(project)
    declared = yaml.safe_load((project.root / "kernels.yaml").read_text())
    declared["payload"]["env"] = {"A": "b"}
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(declared))
    assert ran(project)
    assert not ran(project)


@pytest.mark.integration
def test_a_failure_is_never_cached(project: ToolProject) -> None:
    project.script("bad", "exit 3")
    project.configure(payload={"ebpf": None, "go": None, "binaries": ["bad"]})
    for _ in range(2):
        done = nox(project, "-s", "pre-push")
        assert done.status == 1
        assert project.result().outcome is Outcome.FAILED
        assert not project.result().cached
        assert "exit status 3" in done.output


def test_what_saw_the_hosts_files_is_neither_kept_nor_given(
    library_project: Project, prepared: PreparedRun, tmp_path: Path
) -> None:
    folder = HostFolder("host1", tmp_path, False, "virtiofs", 1.0)
    seeing = spec(folders=(folder,))(prepared)
    remember(library_project, seeing, RUN)
    assert recall(library_project, prepared) is None
    remember(library_project, prepared, RUN)
    assert recall(library_project, prepared) is not None
    assert recall(library_project, seeing) is None
