"""Templates without a machine: their keys, how damage is found, and what is removed."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.host.cache import Cache
from bpfmatrix.vm import template
from bpfmatrix.vm.launch import MachineSpec
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.template import Template
from tests.damage import flip_bit_quietly


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    qemu, payload = tmp_path / "qemu", tmp_path / "payload"
    qemu.write_text("#!/bin/sh\n")
    qemu.chmod(0o755)
    payload.write_bytes(bytes(4096))
    return MachineSpec(
        qemu=str(qemu),
        arch="x86_64",
        accelerator="tcg",
        cpus=2,
        memory_bytes=512 << 20,
        boot=Path("/kernels/6.1/vmlinux"),
        initramfs=Path("/initramfs/0.cpio"),
        payload=payload,
    )


@pytest.mark.parametrize(
    "other",
    [
        {"arch": "aarch64"},
        {"cpus": 1},
        {"memory_bytes": 1024 << 20},
        {"boot": Path("/kernels/6.2/vmlinux")},
        {"initramfs": Path("/initramfs/1.cpio")},
        {"kernel_args": ("quiet",)},
        {"extra_args": ("-no-hpet",)},
        {"accelerator": "kvm"},
        {"kernel_args": ("nokaslr",)},
        {"dump": True},
    ],
    ids="".join,
)
def test_another_machine_has_another_key(spec: MachineSpec, other: dict[str, Any]) -> None:
    assert template.key(replace(spec, **other)) != template.key(spec)


def test_of_the_payload_only_the_size_counts(spec: MachineSpec, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * 4096)
    assert template.key(replace(spec, payload=other)) == template.key(spec)
    other.write_bytes(b"x" * 8192)
    assert template.key(replace(spec, payload=other)) != template.key(spec)


def test_of_the_root_only_its_presence_and_size_count(spec: MachineSpec, tmp_path: Path) -> None:
    one, same, larger = (tmp_path / name for name in ("one", "same", "larger"))
    one.write_bytes(b"x" * 4096)
    same.write_bytes(b"y" * 4096)
    larger.write_bytes(b"x" * 8192)
    known = template.key(replace(spec, root_disk=one))
    assert known != template.key(spec)
    assert known == template.key(replace(spec, root_disk=same))
    assert known != template.key(replace(spec, root_disk=larger))


def test_the_limit_of_a_boot_does_not_change_the_key(spec: MachineSpec) -> None:
    assert template.key(replace(spec, boot_limit=Limit(1, "timeout.boot"))) == template.key(spec)


def test_another_qemu_has_another_key(spec: MachineSpec, tmp_path: Path) -> None:
    before = template.key(spec)
    # An upgrade replaces the file; here by one of the same size.
    os.utime(spec.qemu, (0, 0))
    upgraded = template.key(spec)
    assert upgraded != before
    # A link to it, as in /etc/alternatives, does not change the key, but another target does.
    link, other = tmp_path / "link", tmp_path / "other-qemu"
    shutil.copy(spec.qemu, other)
    link.symlink_to(spec.qemu)
    linked = template.key(replace(spec, qemu=str(link)))
    link.unlink()
    link.symlink_to(other)
    assert template.key(replace(spec, qemu=str(link))) != linked


def test_under_kvm_the_hosts_processor_counts(
    spec: MachineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvm = replace(spec, accelerator="kvm")
    emulated, real = template.key(spec), template.key(kvm)
    monkeypatch.setattr(template, "_host_cpu", lambda: "model name: another")
    assert template.key(spec) == emulated
    assert template.key(kvm) != real


@pytest.fixture
def saved(cache: Cache, spec: MachineSpec) -> Template:
    """A template whose memory, state and console are small files."""
    return make(cache, f"x86_64-6.1-{template.key(spec)}")


def make(cache: Cache, name: str) -> Template:
    folder = cache.root / "templates" / name
    folder.mkdir(parents=True)
    made = Template(folder)
    made.memory.write_bytes(bytes(1 << 16))
    made.state.write_bytes(b"state" * 100)
    made.console.write_text("Linux version\n")
    made.describe()
    return made


def find(cache: Cache, spec: MachineSpec) -> Template | None:
    return template.find(spec, cache, "x86_64-6.1")


def test_a_whole_one_is_found(cache: Cache, spec: MachineSpec, saved: Template) -> None:
    assert saved.damage() == ""
    assert find(cache, spec) == saved
    assert find(cache, replace(spec, cpus=1)) is None


def truncated(saved: Template) -> None:
    stat = saved.memory.stat()
    os.truncate(saved.memory, 100)
    os.utime(saved.memory, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flipped(saved: Template) -> None:
    content = bytearray(saved.state.read_bytes())
    content[7] ^= 1
    saved.state.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "its memory changed"),
        (lambda t: flip_bit_quietly(t.memory), "its memory changed"),
        (lambda t: flip_bit_quietly(t.state), "its state changed"),
        (lambda t: flip_bit_quietly(t.console), "its console changed"),
        (lambda t: t.console.write_bytes(b"\xff"), "its console changed"),
        (lambda t: t.state.write_bytes(b"junk"), "its state changed"),
        (lambda t: t.memory.unlink(), "memory: No such file or directory"),
        (flipped, "its state changed"),
        (lambda t: os.truncate(t.state, 0), "its state changed"),
        (lambda t: t.state.unlink(), "state: No such file or directory"),
        (lambda t: t.console.unlink(), "console.log: No such file or directory"),
        (lambda t: (t.folder / "template.json").unlink(), "template.json: No such file"),
        (lambda t: (t.folder / "template.json").write_text(""), "template.json can't be read"),
        (lambda t: (t.folder / "template.json").write_text("[]"), "template.json can't be read"),
        (lambda t: (t.folder / "template.json").write_text("{}"), "template.json can't be read"),
        (lambda t: (t.folder / "template.json").write_bytes(b"\xff"), "template.json can't be"),
        (lambda t: flip_bit_quietly(t.folder / "template.json", 60), "template.json can't be"),
        (lambda t: shutil.rmtree(t.folder), "template.json: No such file"),
    ],
)
def test_a_damaged_one_is_not_found(
    cache: Cache, spec: MachineSpec, saved: Template, damage: Callable[[Template], Any], words: str
) -> None:
    damage(saved)
    assert words in saved.damage()
    assert find(cache, spec) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda t: os.utime(t.memory, (0, 0)),
        lambda t: t.memory.chmod(0o600),
        lambda t: (
            t.folder.rename(t.folder.with_name("x")),
            shutil.copytree(t.folder.with_name("x"), t.folder),
        ),
    ],
    ids=["utime", "chmod", "copy"],
)
def test_one_with_another_identity_and_its_content_is_found(
    cache: Cache, spec: MachineSpec, saved: Template, change: Callable[[Template], Any]
) -> None:
    change(saved)
    assert saved.damage() == ""
    assert find(cache, spec) == saved
    flip_bit_quietly(saved.memory)
    assert find(cache, spec) is None


def test_discarded_while_its_files_are_open(cache: Cache, saved: Template) -> None:
    with saved.memory.open("rb") as file:
        template.discard(saved, cache)
        assert not saved.folder.exists()
        assert len(file.read()) == 1 << 16
    assert list((cache.root / "tmp").iterdir()) == []
    template.discard(saved, cache)  # one that is gone already


def test_prune_removes_what_was_not_used(cache: Cache, spec: MachineSpec, saved: Template) -> None:
    old = make(cache, "old")
    for one in (old, saved):
        os.utime(one.folder, (time.time() - 7200,) * 2)
    assert find(cache, spec) == saved  # it counts as used now
    [removed] = template.prune(cache, older_than_seconds=3600)
    assert removed.name == "template old"
    assert removed.size_bytes > 0
    assert saved.damage() == ""
    assert [one.name for one in template.prune(cache)] == [f"template {saved.folder.name}"]
    assert template.prune(cache) == []


def test_its_size_is_what_it_really_takes(saved: Template) -> None:
    before = saved.bytes_on_disk
    os.truncate(saved.memory, 1 << 30)  # a hole
    assert saved.bytes_on_disk == before
