"""Which parts a sweep has, by architecture. Nothing is built."""

from pathlib import Path

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError
from bpfmatrix.host.cache import Cache
from bpfmatrix.session.observer import Observer
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.sweep import payloads
from bpfmatrix.sweep.plan import Target, to_run
from bpfmatrix.sweep.state import Part
from tests.sweep import samples


def test_an_architecture_without_tests_is_told_and_the_others_are_tested(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_tests(project: Project, arch: str, options: RunOptions, observer: Observer) -> bool:
        return arch == "x86_64"

    monkeypatch.setattr(payloads, "_has_tests", has_tests)
    monkeypatch.setattr(payloads, "_has_objects", lambda project, observer: False)
    declared = {"6.1": {"source": {"directory": "images"}}}
    project = Project(tmp_path, Config.model_validate({"kernels": declared}), cache)
    arches = ["x86_64", "aarch64"]
    parts = payloads.workloads(project, arches, RunOptions(), Observer())
    assert parts[Part.TESTS].arches == {"x86_64"}
    assert payloads.untested(parts, arches) == [
        "there are no tests for aarch64, and its kernels are swept without"
    ]
    # A kernel without this part has nothing to run, whatever an older sweep has left.
    target = Target("6.1-arm64", "6.1.192", "sha256:b", {})
    old = samples.run(samples.of_test("T"), kernel="6.1-arm64")
    known = {part: {"6.1-arm64": old} for part in Part}
    assert to_run([target], Part.TESTS, known, known, everything=True) == []
    assert not target.holds(Part.TESTS, old)
    with pytest.raises(ConfigError, match="nothing to sweep"):
        payloads.workloads(project, ["aarch64"], RunOptions(), Observer())
