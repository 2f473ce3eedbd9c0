"""The saves that `invoke watch` follows, with real files and the kernel's own notifications."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.session.saves import Saves, following

CONFIG = {
    "kernels": {"6.1": {"source": {"oci": "example/6.1"}}},
    "payload": {
        "ebpf": "ebpf",
        "go": None,
        "binaries": ["bin/check"],
        "files": {"data": "data", "one": "one.txt"},
    },
}


@pytest.fixture
def project(library_project: Project) -> Project:
    """A project with a file in each of its folders. Its executable is not built yet."""
    for name in ("ebpf/x.bpf.c", "ebpf/x.bpf.o", "data/deep/table", "one.txt", "bin/other"):
        path = library_project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    return dataclasses.replace(library_project, config=Config.model_validate(CONFIG))


def write(path: Path) -> None:
    path.write_text("after")


def replace(path: Path) -> None:
    """Save a file as many editors do."""
    new = path.with_name(f"{path.name}.tmp")
    new.write_text("after")
    new.replace(path)


def saved(project: Project, *changes: tuple[Callable[[Path], None], str]) -> str:
    """Make changes, in order; return the names of the first save."""

    async def names() -> str:
        async with following(project) as saves:
            for change, name in changes:
                change(project.root / name)
            return await next_save(saves)

    return asyncio.run(names())


async def next_save(saves: Saves) -> str:
    async with asyncio.timeout(60):
        return await saves.next()


@pytest.mark.parametrize("how", [write, replace])
@pytest.mark.parametrize(
    "name", ["ebpf/x.bpf.c", "ebpf/new.bpf.c", "data/deep/table", "one.txt", "bin/check"]
)
def test_a_save_is_named(project: Project, how: Callable[[Path], None], name: str) -> None:
    assert saved(project, (how, name)) == name


@pytest.mark.parametrize(
    "name", ["ebpf/x.bpf.o", "ebpf/x.bpf.d", "ebpf/.x.bpf.c.swp", "ebpf/x.bpf.c~", "bin/other"]
)
def test_a_file_that_is_built_or_not_declared_does_not_count(project: Project, name: str) -> None:
    assert saved(project, (write, name), (write, "ebpf/x.bpf.c")) == "ebpf/x.bpf.c"


def test_an_executable_that_is_deleted_does_not_count(project: Project) -> None:
    write(project.root / "bin/check")
    changes = ((Path.unlink, "bin/check"), (write, "ebpf/x.bpf.c"))
    assert saved(project, *changes) == "ebpf/x.bpf.c"


def test_saves_while_nobody_waits_are_not_lost(project: Project) -> None:
    names = {"ebpf/x.bpf.c", "one.txt", "data/deep/table"}

    async def follow() -> None:
        async with following(project) as saves:
            for name in names:
                replace(project.root / name)
            found: set[str] = set()
            while found < names:
                found.update((await next_save(saves)).split(", "))

    asyncio.run(follow())


def with_objects(project: Project, *patterns: str) -> Project:
    """The project with built objects, of which one is built by the project's own Makefile."""
    (project.root / "ebpf/Makefile").touch()
    for name in ("build/a.bpf.o", "build/deep/b.bpf.o", "build/a.bpf.c", "out/c.o", "out/d"):
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    entries = [{"path": pattern} for pattern in patterns]
    config = Config.model_validate({**CONFIG, "verify": {"objects": entries}})
    return dataclasses.replace(project, config=config)


@pytest.mark.parametrize(
    ("pattern", "name", "other"),
    [
        ("build/*.bpf.o", "build/a.bpf.o", "build/a.bpf.c"),
        ("build/**/*.bpf.o", "build/deep/b.bpf.o", "build/a.bpf.c"),
        ("out", "out/c.o", "out/d"),
        ("out/c.o", "out/c.o", "out/d"),
        # It need not exist yet.
        ("build/*.new", "build/x.new", "build/a.bpf.o"),
        # The project's Makefile builds these: what they are built from counts.
        ("ebpf/*.bpf.o", "ebpf/x.bpf.c", "ebpf/x.bpf.o"),
    ],
)
def test_a_declared_object_counts_when_it_is_built(
    project: Project, pattern: str, name: str, other: str
) -> None:
    declared = with_objects(project, pattern)
    assert saved(declared, (write, other), (replace, name)) == name


def test_the_places_are_the_declared_folders_and_files(project: Project) -> None:
    assert Saves(project).places == "ebpf, data, bin/check, one.txt"
