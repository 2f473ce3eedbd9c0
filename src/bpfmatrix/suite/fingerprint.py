"""The fingerprint of a run of the tests: a checksum of everything that can change its outcome."""

from collections.abc import Iterable

from bpfmatrix.payload.model import Executable
from bpfmatrix.session.fingerprint import fingerprint_of
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm.protocol import TestCommand

__all__ = ["fingerprint"]


def fingerprint(
    prepared: Prepared, commands: Iterable[tuple[Executable, TestCommand]]
) -> str | None:
    """Return the fingerprint of a run of these commands on a prepared kernel.

    Each command comes with its test. The result is that of `fingerprint_of`.
    """
    return fingerprint_of(
        prepared,
        [(t.name, t.format, c.limit_seconds, c.start.words(c.argv)) for t, c in commands],
    )
