"""The invoke tasks of a project with a kernels.yaml: its tasks.py imports `namespace`.

Each task turns what was typed into one call of the library, and that into an exit status.
"""

from typing import Any

import invoke.collection
from invoke.collection import Collection
from invoke.vendor.lexicon import Lexicon

from bpfmatrix.cli.tasks.bisect import bisect
from bpfmatrix.cli.tasks.build import clean, ebpf, hooks_install, initramfs, test_binaries
from bpfmatrix.cli.tasks.debug import debug
from bpfmatrix.cli.tasks.kernels import (
    kernels_build,
    kernels_fetch,
    kernels_list,
    kernels_prune,
    kernels_search,
    kernels_update,
)
from bpfmatrix.cli.tasks.profile import profile_python
from bpfmatrix.cli.tasks.pylines import pylines
from bpfmatrix.cli.tasks.report import report
from bpfmatrix.cli.tasks.run import doctor, matrix, run, watch
from bpfmatrix.cli.tasks.shell import logs, shell
from bpfmatrix.cli.tasks.verify import verify

__all__ = ["namespace"]


class _InOrder(Lexicon):
    """Tasks that `invoke -l` lists in the order in which they were added, not by name."""

    class _Pair(tuple):  # type: ignore[type-arg]
        def __lt__(self, other: object) -> bool:
            return False  # sorted() then leaves everything where it is

    def items(self) -> Any:
        """Return the pairs of name and task."""
        return [self._Pair(pair) for pair in super().items()]


# invoke sorts by name wherever it lists, and copies the collection that a tasks.py gives it into
# one of its own; so its own collections keep their order too (invoke 2.2 to 3.0).
invoke.collection.Lexicon = _InOrder  # type: ignore[attr-defined]

namespace = Collection(
    *(doctor, run, shell, debug, verify, matrix, report, bisect, watch, logs),
    *(ebpf, test_binaries, initramfs, pylines, profile_python, clean),
    Collection(
        "kernels",
        *(kernels_list, kernels_fetch, kernels_update, kernels_search, kernels_build),
        kernels_prune,
    ),
    Collection("hooks", hooks_install),
)
