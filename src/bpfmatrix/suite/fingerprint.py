"""The fingerprint of a run of the tests: a checksum of everything that can change its outcome."""

from collections.abc import Iterable

from bpfmatrix import __version__
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.installation import PACKAGE
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm import template
from bpfmatrix.vm.protocol import TestCommand

__all__ = ["fingerprint"]


def fingerprint(
    prepared: Prepared, commands: Iterable[tuple[Executable, TestCommand]]
) -> str | None:
    """Return the fingerprint of a run of these commands on a prepared kernel.

    Each command comes with its test. The result is 32 hexadecimal digits, or None if
    the tests see something that no checksum covers: the host's files, or a network.
    """
    if prepared.spec.folders or prepared.spec.network:
        return None
    expected = Expectations.of(prepared.kernel.expect, prepared.image.version)
    known = (
        prepared.kernel.id,
        # The kernel, the initramfs, QEMU and all of its options.
        template.key(prepared.spec),
        prepared.payload_id,
        prepared.root.digest if prepared.root else "",
        [(t.name, t.format, c.limit_seconds, c.start.words(c.argv)) for t, c in commands],
        prepared.setup,
        sorted(prepared.env.items()),
        prepared.kernel.timeout.model_dump(),
        (prepared.kernel.isolation, prepared.kernel.kernel_warnings),
        # A failure is no longer expected when its expectation expires or is removed.
        [expectation.model_dump(mode="json") for expectation in expected.active],
        __version__,
        # In a checkout of bpfmatrix, the code changes without the version.
        [(path.name, path.stat().st_mtime_ns) for path in sorted(PACKAGE.rglob("*.py"))],
    )
    return key_of(known)[:32]
