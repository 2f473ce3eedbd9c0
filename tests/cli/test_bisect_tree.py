"""When the answers that `bisect --tree` has noted hold, and the commands that it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.bisect.built_commit import with_built_kernel
from bpfmatrix.cli.bisect import BisectOptions
from bpfmatrix.cli.bisect_tree import question
from bpfmatrix.cli.tasks.bisect import _write_script
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.host.cache import Cache
from bpfmatrix.session.observer import Observer
from bpfmatrix.suite.options import RunOptions


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    (tmp_path / "ci-kernels").mkdir()
    (tmp_path / "ci-kernels/base.config").write_text("CONFIG_NET=y\n")
    binary = tmp_path / "own.test"
    binary.write_text("#!/bin/sh\nexit 0\n")
    binary.chmod(0o755)
    return binary


def asked(binary: Path, cache: Cache, **more: Mapping[str, Any]) -> str:
    declared: dict[str, Any] = {"6.1": {"source": {"directory": "images"}}}
    payload = {"ebpf": None, "go": None, **more.pop("payload", {})}
    config = Config.model_validate({"kernels": declared, "payload": payload, **more})
    project = with_built_kernel(Project(binary.parent, config.at(binary.parent), cache), "tree")
    options = BisectOptions("own.test", run=RunOptions(binaries=(binary,)))
    return question(project, "tree", options, Observer())


def test_noted_answers_hold_until_what_runs_or_its_settings_change(
    binary: Path, cache: Cache
) -> None:
    first = asked(binary, cache)
    assert asked(binary, cache) == first
    others = [
        asked(binary, cache, payload={"env": {"A": "1"}}),
        asked(binary, cache, defaults={"qemu": {"memory": "2G"}}),
        asked(binary, cache, verify={"max_insns": 1000}),
    ]
    (binary.parent / "ci-kernels/base.config").write_text("CONFIG_NET=y\nCONFIG_BPF=y\n")
    others.append(asked(binary, cache))
    binary.write_text("#!/bin/sh\nexit 1\n")
    others.append(asked(binary, cache))
    assert len({first, *others}) == 6


def test_each_command_has_a_script_of_its_own(tmp_path: Path) -> None:
    one, other = (_write_script(tmp_path / "bisect", command) for command in (["a"], ["b c"]))
    assert one.read_text() == "#!/bin/sh\na\n"
    assert other.read_text() == "#!/bin/sh\n'b c'\n"
    assert _write_script(tmp_path / "bisect", ["a"]) == one
    assert sorted((tmp_path / "bisect").iterdir()) == sorted([one, other])
