"""The verdict of the KVM probe: when it is remembered."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.host import records
from bpfmatrix.host.architecture import X86_64
from bpfmatrix.host.cache import Cache
from bpfmatrix.vm import accelerator
from tests.damage import DAMAGES, Notes

pytestmark = pytest.mark.skipif(
    os.uname().machine != X86_64.name or not os.access("/dev/kvm", os.R_OK | os.W_OK),
    reason="needs a /dev/kvm that can be opened; whether guests run under it does not matter",
)


def choose(cache: Cache, notes: Notes) -> accelerator.Accelerator:
    return accelerator.choose("auto", X86_64.name, "/usr/bin/false", cache, notes)


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_verdict_is_probed_again(cache: Cache, harm: Callable[[Path], None]) -> None:
    # false(1) ends as a QEMU does that can't run a guest under KVM.
    notes, record = Notes(), cache.root / "kvm-probe.json"
    found = choose(cache, notes)
    assert found.name == "tcg"
    harm(record)
    missing = not record.exists()
    assert choose(cache, notes) == found
    words = "the record of the KVM probe can't be used; probing again"
    assert notes.told == ([] if missing else [words])
    assert choose(cache, notes) == found
    assert len(notes.told) < 2


def test_a_verdict_for_another_qemu_is_not_used(cache: Cache) -> None:
    notes = Notes()
    choose(cache, notes)
    record = cache.root / "kvm-probe.json"
    known = records.read(record)
    assert known is not None
    lie = {"key": known["key"].replace("false", "true"), "found": {"name": "kvm"}}
    records.write(record, lie)
    assert choose(cache, notes).name == "tcg"
    assert notes.told == []
