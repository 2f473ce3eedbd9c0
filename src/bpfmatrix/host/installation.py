"""Where this package lies on the host, and the checkout that it may be part of."""

from pathlib import Path

import bpfmatrix

__all__ = ["CHECKOUT", "PACKAGE"]

PACKAGE = Path(bpfmatrix.__file__).parent
"""The folder of the package `bpfmatrix`."""
CHECKOUT = PACKAGE.parents[1]
"""The root of a checkout, if the package lies in one: `support/`, `ebpf/` and `ci-kernels/` are
there. In an installed wheel, the folder exists and has none of them."""
