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
    assert suites_of(kernel_from(source), "6.8.12") == suites


@pytest.mark.parametrize(
    ("version", "arch", "release"),
    [
        ("5.4.286", "x86_64", "bullseye"),
        ("5.10.262", "x86_64", "bullseye"),
        ("5.15.1", "aarch64", "bookworm"),
        ("6.1.192+", "x86_64", "bookworm"),
        ("6.2", "x86_64", "trixie"),
        ("7.3.4", "x86_64", "trixie"),
        ("5.15.1", "riscv64", "trixie"),
    ],
)
def test_any_other_kernel_has_the_tools_of_a_release_with_no_older_kernel(
    version: str, arch: str, release: str
) -> None:
    kernel = kernel_from({"directory": "images"}, arch)
    assert suites_of(kernel, version) == (f"{release}-security", release)


def kernel_from(source: dict[str, object], arch: str = "x86_64") -> KernelConfig:
    parsed = Source.model_validate(source)
    return KernelConfig(id="6.1", root=Path("/"), source=parsed, arch=arch)
