"""Settings and privileges in the words of the guest."""

import dataclasses
import resource
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.settings import Settings
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.session import privileges

IMAGE = KernelImage(
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


def kernel(**payload: Any) -> KernelConfig:
    source = {"source": {"apt": {"suite": "x"}}}
    return Config.model_validate({"payload": payload, "kernels": {"6.1": source}}).kernel("6.1")


def start(settings: dict[str, Any], version: str = "6.1.192", **env: str) -> dict[str, Any]:
    image = dataclasses.replace(IMAGE, version=version)
    return privileges.start_settings(Settings.model_validate(settings), kernel(), image, env)


def test_without_settings_a_command_is_started_as_it_was() -> None:
    nothing = {"user": "", "capabilities": None, "limits": (), "token": False, "env": ()}
    assert start({}) == nothing


def test_settings_become_numbers() -> None:
    found = start({"capabilities": ["CAP_BPF", "bpf", "CAP_CHOWN"], "memlock": "64K", "user": 7})
    assert (found["user"], found["capabilities"]) == ("7", 1 << 39 | 1)
    assert found["limits"] == ((resource.RLIMIT_MEMLOCK, 65536),)
    assert start({"capabilities": []})["capabilities"] == 0
    limits = {"core": "unlimited", "as": "1G", "time": 3}
    expected = {(resource.RLIMIT_CORE, -1), (resource.RLIMIT_AS, 1 << 30)}
    assert set(start({"limits": limits})["limits"]) == expected


def test_a_command_has_its_own_variables_besides_those_of_the_session() -> None:
    env = {"A": "1", "HOME": "/x"}
    assert start({"env": env}, A="1", HOME="/y")["env"] == (("HOME", "/x"),)
    # Another user has another HOME, so that the session's one is set again.
    assert start({"env": env, "user": "nobody"}, **env)["env"] == (("A", "1"), ("HOME", "/x"))


def test_a_capability_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(BpfmatrixError, match=r"6\.1 \(5\.4\.276\) has no CAP_BPF, which came with"):
        start({"capabilities": ["CAP_BPF"]}, version="5.4.276")
    assert start({"capabilities": ["CAP_BPF"]}, version="5.8")["capabilities"] == 1 << 39


@pytest.mark.parametrize(
    ("payload", "calls"),
    [
        ({}, ()),
        ({"unprivileged_bpf": True}, (("unprivileged_bpf", "0"),)),
        ({"unprivileged_bpf": False}, (("unprivileged_bpf", "2"),)),
        ({"lockdown": "integrity"}, (("lockdown", "integrity"),)),
    ],
)
def test_init_is_told_what_the_kernel_allows(payload: dict[str, Any], calls: object) -> None:
    assert privileges.setup(kernel(**payload), IMAGE) == calls


def test_what_a_kernel_can_not_do_is_said_before_it_is_booted(tmp_path: Path) -> None:
    with pytest.raises(BpfmatrixError, match=r"6\.1 \(6\.1\.192\) has no BPF tokens, which came"):
        privileges.setup(kernel(bpf_token=True), IMAGE)
    newer = dataclasses.replace(IMAGE, version="6.9")
    assert privileges.setup(kernel(bpf_token=True), newer) == ()
    (tmp_path / "config").write_text("CONFIG_SMP=y\n")
    image = dataclasses.replace(IMAGE, vmlinuz=tmp_path / "vmlinuz")
    with pytest.raises(BpfmatrixError, match="has no lockdown"):
        privileges.setup(kernel(lockdown="integrity"), image)
    assert privileges.setup(kernel(lockdown="none"), image) == ()
