"""Which kernel of a project a core file of a guest's memory is of."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from bpfmatrix.debug.core_session import chosen
from bpfmatrix.kernels.formats.guest_core import GuestCore


@dataclass(frozen=True)
class Kernel:
    id: str


@dataclass(frozen=True)
class Image:
    release: str
    arch: str = "x86_64"


KNOWN = cast(
    Any,
    [
        (Kernel("6.1"), Image("6.1.0-56")),
        (Kernel("6.1-arm64"), Image("6.1.0-56", "aarch64")),
        (Kernel("6.1-again"), Image("6.1.0-56")),
        (Kernel("7.3"), Image("7.3.4")),
    ],
)


@pytest.mark.parametrize(
    ("release", "arch", "id", "wanted"),
    [
        ("6.1.0-56", "x86_64", None, "6.1"),
        ("6.1.0-56", "aarch64", None, "6.1-arm64"),
        ("6.1.0-56", "x86_64", "6.1-again", "6.1-again"),
        ("6.1.0-56", "x86_64", "7.3", None),
        ("5.10.0-46", "x86_64", None, None),
        ("7.3.4", "aarch64", None, None),
    ],
)
def test_the_kernel_of_a_core(release: str, arch: str, id: str | None, wanted: str | None) -> None:
    core = GuestCore(arch, {"OSRELEASE": release}, (), (0, 0))
    found = chosen(KNOWN, core, id)
    assert (found[0].id if found else None) == wanted
