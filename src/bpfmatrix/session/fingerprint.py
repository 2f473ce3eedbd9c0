"""The fingerprint of a session: a checksum of everything that can change its outcome."""

from bpfmatrix import __version__
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.installation import PACKAGE
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm import template

__all__ = ["fingerprint_of"]


def fingerprint_of(prepared: Prepared, work: object) -> str | None:
    """Return the fingerprint of a session on a prepared kernel.

    `work` is what the workload does there, in lists, tuples, numbers and texts. The result is 32
    hexadecimal digits, or None if the guest sees something that no checksum covers: the host's
    files, or a network.
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
        work,
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
