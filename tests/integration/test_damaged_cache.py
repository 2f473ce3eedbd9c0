"""Runs on a real kernel whose files in the cache are damaged: verdicts are those of whole files."""

import contextlib
import io
import mmap
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.cli.run import run_chosen
from bpfmatrix.cli.run_choice import TESTS
from bpfmatrix.config.project import Project
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.integrity import record_of
from bpfmatrix.kernels.store import Store
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.options import RunOptions
from tests.damage import DAMAGES, flip_bit_quietly
from tests.tool import ToolProject

pytestmark = pytest.mark.integration

# It boots fastest.
KERNEL = "5.10"
FAILING = b"#!/bin/sh\nexit 1\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache of these tests' own, since they damage it."""
    return Cache(tmp_path_factory.mktemp("cache"))


@dataclass(frozen=True)
class Runner:
    """Runs scripts in this process, in a project whose cache may be damaged."""

    tool: ToolProject
    cache: Cache

    @property
    def project(self) -> Project:
        return replace(Project.load(self.tool.root), cache=self.cache)

    def run(
        self, script: str, *, cold: bool = False, cached: bool = False
    ) -> tuple[KernelRun, str]:
        """Run a script; return its result, and what was printed."""
        path, said = self.tool.root / self.tool.script("script", script), io.StringIO()
        with contextlib.redirect_stdout(said):
            options = RunOptions(binaries=(path,), cold=cold, cached=cached)
            [result] = run_chosen(self.project, [KERNEL], TESTS, options).runs
        return result, said.getvalue()

    def of(self, kind: str, pattern: str) -> Path:
        """Return the only file of this kind in the cache."""
        [path] = (self.cache.root / kind).glob(pattern)
        return path


@pytest.fixture
def runner(project: ToolProject, cache: Cache) -> Runner:
    """A runner whose cache has a whole kernel, and nothing of a payload."""
    project.configure([KERNEL])
    made, kernel = Runner(project, cache), Project.load(project.root).config.kernel(KERNEL)
    if not (cache.root / "kernels").exists():
        users = Cache.default()
        image, _ = kernels.provide(kernel, users)
        # Copies, and no links: the tests write into them.
        for path in (image.folder, Store(users)._ref(kernel)):
            target = cache.root / path.relative_to(users.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)
        if (users.root / "kvm-probe.json").exists():
            shutil.copy2(users.root / "kvm-probe.json", cache.root)
    shutil.rmtree(cache.root / "payloads", ignore_errors=True)
    return made


@pytest.fixture
def warm(runner: Runner) -> Runner:
    """The same, with a template."""
    result, output = runner.run("true")
    assert result.outcome is Outcome.PASSED, output
    shutil.rmtree(runner.cache.root / "payloads")
    return runner


def let_it_pass(disk: Path) -> None:
    """Flip the bit of an image that makes `exit 0` of `exit 1`; its times stay."""
    with disk.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        place = content.find(FAILING) + FAILING.index(b"1")
    flip_bit_quietly(disk, place)
    program = tools.require("debugfs", "e2fsprogs")
    words = [str(program), "-R", "cat /script", str(disk)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    assert done.stdout == b"#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_no_flipped_bit_makes_a_failing_test_pass(warm: Runner, cold: bool) -> None:
    assert warm.run("exit 1")[0].outcome is Outcome.FAILED
    let_it_pass(warm.of("payloads", "*.ext4"))
    result, output = warm.run("exit 1", cold=cold)
    assert result.outcome is Outcome.FAILED
    assert result.tests[0].reason == "exit status 1"
    assert "the payload's image does not have the content that it was stored with" in output
    result, output = warm.run("exit 1")
    assert result.outcome is Outcome.FAILED
    assert "making it again" not in output


@pytest.mark.parametrize("harm", [DAMAGES[2], DAMAGES[3], Path.unlink], ids=lambda f: f.__name__)
def test_an_image_of_nothing_does_not_cost_the_run(
    warm: Runner, harm: Callable[[Path], None]
) -> None:
    assert warm.run("echo hello")[0].outcome is Outcome.PASSED
    harm(warm.of("payloads", "*.ext4"))
    result, output = warm.run("echo hello")
    assert result.outcome is Outcome.PASSED, output
    assert result.tests[0].output == "hello\n"


@pytest.mark.parametrize("harm", [flip_bit_quietly, DAMAGES[2]], ids=lambda f: f.__name__)
def test_a_damaged_kernel_with_a_template_is_fetched_again(
    warm: Runner, harm: Callable[[Path], None]
) -> None:
    image = kernels.cached(warm.project.config.kernel(KERNEL), warm.cache)
    assert image is not None
    harm(image.boot)
    result, output = warm.run("true")
    assert result.outcome is Outcome.PASSED, output
    assert f"{KERNEL}: the cached kernel is damaged ({image.boot.name} " in output
    assert "fetched" in output
    assert "boot    warm template," in output
    image.verify()
    result, output = warm.run("true")
    assert "damaged" not in output
    assert "boot    warm template," in output


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("what", ["archive", "record", "name"])
def test_a_damaged_initramfs_is_made_again(warm: Runner, what: str, cold: bool) -> None:
    archive, name = warm.of("initramfs", "*.cpio"), warm.of("initramfs", "*.json")
    damaged = {"archive": archive, "record": record_of(archive), "name": name}[what]
    damaged.write_bytes(b"\xff\xfe\x80")
    result, output = warm.run("true", cold=cold)
    assert result.outcome is Outcome.PASSED, output
    assert "the initramfs " in output
    result, output = warm.run("true", cold=cold)
    assert result.outcome is Outcome.PASSED
    assert "the initramfs " not in output


@pytest.mark.parametrize("name", ["memory", "state", "console.log"])
def test_a_flipped_bit_of_a_template_is_seen(warm: Runner, name: str) -> None:
    template = warm.of("templates", "*")
    flip_bit_quietly(template / name)
    result, output = warm.run("true")
    assert result.outcome is Outcome.PASSED
    assert f"discarded: its {name.removesuffix('.log')} changed" in output
    assert "warm, template made" in output


def test_a_damaged_result_is_not_recalled(warm: Runner) -> None:
    assert warm.run("true", cached=True)[0].cached
    [kept] = (warm.project.state / "passed").glob("*.json")
    kept.write_text(kept.read_text().replace("script", "tpircs"))
    result, _ = warm.run("true", cached=True)
    assert not result.cached
    assert [test.name for test in result.tests] == ["script"]
