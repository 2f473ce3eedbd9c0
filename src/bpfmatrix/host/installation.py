"""The folder of this package on the host, and the checkout that it may be part of."""

from pathlib import Path

import bpfmatrix

__all__ = ["CHECKOUT", "PACKAGE"]

PACKAGE = Path(bpfmatrix.__file__).parent
"""The folder of the package `bpfmatrix`."""
CHECKOUT = PACKAGE.parents[1]
"""The root of the checkout that the package is in, with `support/`, `ebpf/` and `ci-kernels/`. If
the package was installed from a wheel, this folder exists but has none of them."""
