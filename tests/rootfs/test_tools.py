from pathlib import Path

import pytest

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.rootfs.tools import suites_of

UBUNTU = {
    "suite": "noble",
    "package": "linux-image-6.8.*",
    "mirror": "http://archive.example.org/ubuntu",
    "keyring": "keys.gpg",
}


@pytest.mark.parametrize(
    ("source", "suites"),
    [
        ({"apt": {"suite": "bookworm-security"}}, ("bookworm-security", "bookworm")),
        ({"apt": {"suite": "bullseye"}}, ("bullseye-security", "bullseye")),
        (
            {"apt": {"suite": "trixie-backports"}},
            ("trixie-security", "trixie", "trixie-backports"),
        ),
        ({"apt": UBUNTU}, ("trixie-security", "trixie")),
        ({"directory": "images"}, ("trixie-security", "trixie")),
    ],
)
def test_a_kernel_has_the_tools_of_its_own_release(
    source: dict[str, object], suites: tuple[str, ...]
) -> None:
    kernel = KernelConfig(id="6.1", root=Path("/"), source=Source.model_validate(source))
    assert suites_of(kernel) == suites
