"""The models of kernels.yaml: defaults, their overrides, and the kernels of the matrix."""

from typing import Any

import pytest
import yaml

from bpfmatrix.config.models import Config
from bpfmatrix.errors import UsageError

APT: dict[str, Any] = {"apt": {"suite": "bookworm-security"}}
MINIMAL: dict[str, Any] = {"kernels": {"6.1": {"source": APT}}}


def test_missing_keys_have_defaults() -> None:
    kernel = Config.model_validate(MINIMAL).kernel("6.1")
    assert kernel.id == "6.1"
    assert kernel.arch == "x86_64"
    assert kernel.qemu.memory == 512 << 20
    assert (kernel.timeout.boot, kernel.timeout.test) == (20, 60)
    assert kernel.source.kind == "apt"


def test_a_kernel_overrides_single_keys_of_the_defaults() -> None:
    loaded = Config.model_validate(
        yaml.safe_load("""
        defaults:
          qemu: {memory: 1G, cpus: 4, extra_args: [-s]}
          timeout: {test: 7s}
          modules: [a]
          kernel_args: [quiet]
        kernels:
          "6.1":
            source: {apt: {suite: x}}
            qemu: {cpus: 1}
            timeout: {boot: 2m}
            modules: [b]
          "6.12": {source: {apt: {suite: y}}}
        """)
    )
    one, other = loaded.kernel("6.1"), loaded.kernel("6.12")
    assert (one.qemu.memory, one.qemu.cpus, one.qemu.extra_args) == (1 << 30, 1, ["-s"])
    assert (one.timeout.boot, one.timeout.test, one.timeout.run) == (120, 7, 1200)
    assert (one.modules, one.kernel_args) == (["b"], ["quiet"])
    assert (other.qemu.cpus, other.timeout.boot, other.modules) == (4, 20, ["a"])
    assert other.source.apt is not None
    assert other.source.apt.suite == "y"


def test_a_kernel_can_set_a_key_back_to_the_models_default() -> None:
    data = {
        "defaults": {"qemu": {"cpus": 4}, "modules": ["a"]},
        "kernels": {"6.1": {"source": APT, "qemu": {"cpus": 2}, "modules": []}},
    }
    kernel = Config.model_validate(data).kernel("6.1")
    assert (kernel.qemu.cpus, kernel.modules) == (2, [])


def test_an_unknown_kernel_is_refused_with_a_suggestion() -> None:
    loaded = Config.model_validate({"kernels": {"5.10": {"source": APT}, "6.1": {"source": APT}}})
    with pytest.raises(UsageError) as caught:
        loaded.kernel("5.1")
    assert caught.value.what == "no kernel '5.1' in kernels.yaml (did you mean \"5.10\"?)"
    assert caught.value.advice == "It has: 5.10, 6.1."


def test_without_a_matrix_it_is_all_kernels() -> None:
    kernels = {"5.10": {"source": APT}, "6.1": {"source": APT}}
    assert Config.model_validate({"kernels": kernels}).matrix_ids == ["5.10", "6.1"]
    assert Config.model_validate({"kernels": kernels, "matrix": ["6.1"]}).matrix_ids == ["6.1"]


def test_a_matrix_may_be_a_mapping_that_says_what_it_includes() -> None:
    kernels = {"5.10": {"source": APT}, "6.1": {"source": APT}}
    listed = Config.model_validate({"kernels": kernels, "matrix": ["6.1"]})
    mapped = Config.model_validate({"kernels": kernels, "matrix": {"kernels": ["6.1"]}})
    assert listed.matrix == mapped.matrix
    included = Config.model_validate({"kernels": kernels, "matrix": {"includes": ["verify"]}})
    assert included.matrix.includes == ["verify"]
    assert included.matrix_ids == included.pre_push_ids == ["5.10", "6.1"]
