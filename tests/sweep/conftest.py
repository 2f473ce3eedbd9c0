"""Fixtures of the tests of sweeps: a small Debian archive on loopback."""

from tests.kernels.conftest import archive, keyring

__all__ = ["archive", "keyring"]
