from pathlib import Path

import hypothesis
import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.host.cache import Cache
from tests.goproject import GoModule
from tests.tool import ToolProject

# How long an example takes says nothing on a machine that boots others at the same time.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def library_project(tmp_path: Path, cache: Cache) -> Project:
    """A project for the library alone, in a folder with nothing but what the test puts there."""
    root = tmp_path / "project"
    root.mkdir()
    kernels = {id: {"source": {"oci": f"example/{id}"}} for id in ("5.10", "6.1")}
    config = Config.model_validate({"kernels": kernels})
    return Project(root, config, cache)


@pytest.fixture
def project(tmp_path: Path) -> ToolProject:
    """A folder with a kernels.yaml and a tasks.py, in which the tool is run as a user runs it.

    Its kernels have the sources of this repository's kernels.yaml, and the cache is the user's, so
    a kernel is fetched once. It declares no eBPF and no Go tests: tests give it executables.
    """
    made = ToolProject(tmp_path / "project")
    made.configure()
    return made


@pytest.fixture(scope="session")
def go_module(tmp_path_factory: pytest.TempPathFactory) -> GoModule:
    """A Go module with tests, which are built when a test asks for them."""
    module = GoModule(tmp_path_factory.mktemp("go") / "sample")
    module.write()
    return module
