"""The kernels of tests that run on several: the oldest, the newest, and one between them.

Those between them take time that CI does not have: `nox -s middle` runs the tests on them.
"""

import pytest

__all__ = ["KERNELS", "middle"]


def middle(kernel: str) -> object:
    """Return a parameter of a test: a kernel between the oldest and the newest."""
    return pytest.param(kernel, marks=pytest.mark.middle)


KERNELS = ("5.10", middle("6.1"), "7.3")
