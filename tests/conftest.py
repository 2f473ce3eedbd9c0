"""Fixtures of all tests: a cache, a project of each kind, and a Go module with tests."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.host.cache import Cache
from tests.browser import chromium
from tests.goproject import GoModule
from tests.host_tools import path_without
from tests.tool import ToolProject

# Without a time limit for each example, since other tests may keep the machine busy.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")

# A shell without job control lets `command &` ignore SIGINT, as do all processes that this starts.
# Tests of Ctrl-C need the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def library_project(tmp_path: Path, cache: Cache) -> Project:
    """A project for calls of the library, in an empty folder. Its kernels can't be fetched."""
    root = tmp_path / "project"
    root.mkdir()
    kernels = {id: {"source": {"oci": f"example/{id}"}} for id in ("5.10", "6.1")}
    config = Config.model_validate({"kernels": kernels})
    return Project(root, config, cache)


@pytest.fixture
def project(tmp_path: Path) -> ToolProject:
    """A project with the kernel 6.1, in which nox and invoke run in processes of their own.

    The kernel has the source of this repository's kernels.yaml, and the cache is the user's, so it
    is fetched once. The project declares no eBPF and no Go tests: tests give it executables.
    """
    made = ToolProject(tmp_path / "project")
    made.configure()
    return made


@pytest.fixture(scope="session")
def path_without_apt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with all programs of this host but apt's."""
    return path_without(tmp_path_factory.mktemp("programs") / "bin", "apt")


@pytest.fixture(scope="session")
def go_module(tmp_path_factory: pytest.TempPathFactory) -> GoModule:
    """A Go module whose tests are built when they are first needed."""
    module = GoModule(tmp_path_factory.mktemp("go") / "sample")
    module.write()
    return module


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by selenium."""
    with chromium() as driver:
        yield driver
