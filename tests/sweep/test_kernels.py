"""Which kernels are swept: what sources offer, with one that can't be asked among them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.series import Available
from bpfmatrix.sweep import kernels
from tests.kernels.archive import Archive
from tests.kernels.conftest import add_kernel, use_host_settings

GOOD = {"apt": {"suite": "good"}}
BAD = {"apt": {"suite": "gone"}}


def config(**more: Any) -> Config:
    declared: dict[str, Any] = {
        "5.10": {"source": BAD},
        "6.1": {"source": GOOD},
        "6.1-arm64": {"source": GOOD, "arch": "aarch64"},
        "own": {"source": {"directory": "images"}},
    }
    return Config.model_validate({"kernels": declared, **more})


def found_in(config: Config) -> Available:
    """What the good suite has beside the declared kernels: 6.12, and 6.12 for arm64."""
    entry = config.kernels["6.1"]
    other = config.kernels["6.1-arm64"]
    kernels = {**config.kernels, "6.12": entry, "6.12-arm64": other}
    return Available(config.model_copy(update={"kernels": kernels}), ("6.1", "6.12"), {}, ())


@pytest.mark.parametrize(
    ("more", "arch", "expected"),
    [
        ({}, None, ["5.10", "6.1", "6.1-arm64", "own", "6.12"]),
        ({"matrix": ["own"]}, None, ["own", "6.1", "6.12"]),
        ({"matrix": ["6.1@user"], "profiles": {"user": {}}}, None, ["6.1@user", "6.12"]),
        ({"matrix": ["own"]}, "aarch64", ["6.12-arm64", "6.1-arm64"]),
        ({"matrix": ["6.1-arm64"]}, "x86_64", ["6.1", "6.12"]),
    ],
)
def test_the_matrix_and_each_series_on_offer_are_swept(
    more: Mapping[str, Any], arch: str | None, expected: list[str]
) -> None:
    declared = config(**more)
    assert kernels.chosen(declared, found_in(declared), arch) == expected


@pytest.fixture
def served(
    tmp_path: Path, keyring: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """Kernels of a real archive on loopback that has one of the two suites, and two others."""
    add_kernel(archive, "6.12.7", "6.12.7-1")
    archive.publish()
    suites = (archive.suite, "gone-security")
    lines = [f"deb [signed-by={keyring}] {archive.uri} {suite} main\n" for suite in suites]
    use_host_settings(tmp_path, monkeypatch, "".join(lines))
    declared = {
        "5.10": {"source": {"apt": {"suite": "gone-security"}}},
        "6.1": {"source": {"apt": {"suite": archive.suite}}},
        "own": {"source": {"directory": "images"}},
    }
    config = Config.model_validate({"kernels": declared, "profiles": {"user": {}}})
    return config.at(tmp_path)


@pytest.mark.integration
def test_what_can_not_be_asked_or_had_keeps_no_other_kernel_from_being_swept(
    served: Config, cache: Cache
) -> None:
    offered = kernels.offered(served, cache)
    assert len(offered.failures) == 1
    assert "gone-security" in offered.failures[0]
    assert offered.available.ids == ("6.1", "6.12")
    ids = ["6.1", "6.1@user", *kernels.chosen(served, offered.available, None)]
    found = kernels.resolved(offered.available.config, ids, cache)
    assert list(found.images) == ["6.1", "6.1@user", "6.12"]
    assert found.images["6.12"].version == "6.12.7"
    assert found.images["6.1"] is found.images["6.1@user"]
    assert list(found.failures) == ["5.10", "own"]
    assert found.failures["own"].startswith("there is no ")


@pytest.mark.integration
def test_a_kernel_whose_source_can_not_be_asked_is_not_taken_from_another(
    served: Config, cache: Cache, tmp_path: Path
) -> None:
    source = {"apt": {"suite": "gone-security"}}
    declared = {
        **{id: entry.model_dump(exclude_unset=True) for id, entry in served.kernels.items()},
        "6.12": {"source": source, "qemu": {"memory": "2G"}},
    }
    config = Config.model_validate({"kernels": declared}).at(tmp_path)
    offered = kernels.offered(config, cache)
    assert offered.available.config.kernels["6.12"] == config.kernels["6.12"]
    # So it is swept from its own source, and told if it can't be had.
    found = kernels.resolved(offered.available.config, ["6.12"], cache)
    assert list(found.failures) == ["6.12"]
