"""Trials of built commits: make really builds a tree, which is not Linux; nothing is booted."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.bisect import built_commit
from bpfmatrix.bisect.commits import Commit
from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, KernelBuildError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.build import builder, make
from tests.kernels import synthetic

COMMIT = Commit("0123456789abcdef", "subject", "author", "2026-11-27")
# The targets that a build asks for. `kernel` is the image.
MAKEFILE = """\
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 9
allnoconfig:
	echo CONFIG_NET=y > $(O)/.config
bzImage:
	test ! -e broken.c || { cat broken.c >&2; exit 1; }
	mkdir -p $(O)/arch/x86/boot $(O)/include/config
	cp kernel $(O)/arch/x86/boot/bzImage
	gcc -c -x c /dev/null -o $(O)/vmlinux
	echo > $(O)/System.map
	echo 6.1.9 > $(O)/include/config/kernel.release
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "linux"
    (tree / "arch/x86").mkdir(parents=True)
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / "Kconfig").write_text('source "arch/$(SRCARCH)/Kconfig"\n')
    (tree / "arch/x86/Kconfig").write_text('config NET\n\tbool "Networking"\n')
    return tree


@pytest.fixture
def project(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Project:
    # The tools and the space that a real kernel takes.
    monkeypatch.setattr(make, "require_tools", lambda arch: None)
    monkeypatch.setattr(builder, "OBJECTS_BYTES", 0)
    (tmp_path / "ci-kernels").mkdir()
    (tmp_path / "ci-kernels/base.config").write_text("CONFIG_NET=y\n")
    config = Config.model_validate({"kernels": {"6.1": {"source": {"directory": "images"}}}})
    return built_commit.with_built_kernel(Project(tmp_path, config, cache), "bisect-1")


def trials(
    project: Project, tree: Path, try_kernel: Callable[[str], Trial]
) -> Callable[[Commit], Trial]:
    return built_commit.of_built_commits(
        project, "bisect-1", tree, try_kernel, lambda text, fraction=None: None
    )


def test_the_kernel_that_is_tried_is_the_one_just_built(project: Project, tree: Path) -> None:
    tried: list[bytes] = []

    def try_kernel(id: str) -> Trial:
        file = project.config.kernel(id).source.directory
        assert file is not None
        tried.append(file.read_bytes())
        return Trial(Answer.BAD, "why")

    images = [synthetic.bzimage(release=release) for release in ("6.1.9-a", "6.1.9-b")]
    for image in images:
        (tree / "kernel").write_bytes(image)
        assert trials(project, tree, try_kernel)(COMMIT) == Trial(Answer.BAD, "why")
    assert tried == images


def test_a_tree_that_does_not_build_gives_no_answer(project: Project, tree: Path) -> None:
    (tree / "broken.c").write_text("kernel/a.c:1:2: error: no such thing\n")
    trial = trials(project, tree, lambda id: pytest.fail("tried"))(COMMIT)
    assert trial.answer is Answer.UNKNOWN
    assert trial.reason.startswith("does not build: ")
    assert "no such thing" in trial.reason
    assert not trial.is_fault


def test_a_full_disk_is_no_answer_about_the_commit(project: Project, tree: Path) -> None:
    (tree / "broken.c").write_text("as: a.o: No space left on device\n")
    with pytest.raises(BpfmatrixError, match="No space left") as caught:
        trials(project, tree, lambda id: pytest.fail("tried"))(COMMIT)
    assert not isinstance(caught.value, KernelBuildError)


def test_what_is_not_the_kernel_s_fault_is_no_answer_either(project: Project, tree: Path) -> None:
    (tree / "kernel").write_bytes(synthetic.bzimage())
    fault = Trial(Answer.UNKNOWN, "the tests do not compile", is_fault=True)
    with pytest.raises(BpfmatrixError, match="could not be tried: the tests do not compile"):
        trials(project, tree, lambda id: fault)(COMMIT)
    # Without a fault, the kernel did not boot.
    quiet = dataclasses.replace(fault, is_fault=False)
    assert trials(project, tree, lambda id: quiet)(COMMIT) == quiet
