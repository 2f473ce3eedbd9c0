"""Pinned kernels from a registry: by the digest of the kernel, and nothing else.

The tag of a kernel is `kernel-` and a checksum of its vmlinuz, its configuration and its modules.
Its image is one of those that `OciKernel` reads. Whoever can write into the registry decides what
is behind a tag; so the kernel, its configuration and its modules are only taken if they have the
digests that are pinned.
"""

from pathlib import Path

from bpfmatrix.config.kernels_lock import Pin
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage, Provenance, is_made_by_depmod
from bpfmatrix.kernels.oci.image_kernel import fetched
from bpfmatrix.kernels.staging import install
from bpfmatrix.kernels.store import Store
from bpfmatrix.oci.image import OciImage, resolve_in
from bpfmatrix.oci.reference import Reference
from bpfmatrix.oci.registry import GoneError, RegistryClient

__all__ = ["fetch", "find", "tag_of"]


def tag_of(digest: str, files: str) -> str:
    """Return the tag of a kernel by `digest` and `files` of its pin, both `sha256:...`.

    Kernels that differ in their configuration or modules only must not take each other's tag.
    """
    return f"kernel-{sha256(f'{digest} {files}')}"


def find(kernel: KernelConfig, repository: str) -> OciImage:
    """Ask a repository for the image of a pinned kernel; the errors of `fetch`."""
    pin = kernel.pin
    assert pin is not None
    reference = _reference(pin, repository)
    name = f"{reference.name} ({pin.version})"
    try:
        return resolve_in(RegistryClient(reference), reference.tag, "", kernel.arch, name)
    except GoneError as error:
        raise KernelUnavailableError(
            f"{reference.name} does not have {pin.version} ({reference.tag[:19]}...)"
        ) from error


def _reference(pin: Pin, repository: str) -> Reference:
    return Reference.parse(f"{repository}:{tag_of(pin.digest, pin.files)}")


def fetch(kernel: KernelConfig, repository: str, store: Store, progress: Progress) -> KernelImage:
    """Fetch a pinned kernel from a repository, store it, and let `kernel` point at it.

    BpfmatrixError if the repository can't be asked, lacks the kernel, or has another one in its
    place, of which nothing is kept.
    """
    pin = kernel.pin
    assert pin is not None
    reference = _reference(pin, repository)
    name = f"{reference.name} ({pin.version})"
    progress(f"{kernel.id}: asking {reference.host}")
    image = find(kernel, repository)
    with fetched(image, kernel.id, name, store, progress) as (staging, found):
        # Before anything reads it.
        if f"sha256:{sha256_of(found.vmlinuz)}" != pin.digest:
            raise KernelUnavailableError(
                f"{reference.name} has another kernel behind the tag of {pin.version}",
                f"Its digest is sha256:{sha256_of(found.vmlinuz)}; it is not used.",
            )
        kernel_name = f"{found.name} of {name}"

        def modules(release: str) -> dict[str, Path]:
            # Of what depmod writes, no digest is pinned; it is written again.
            files = found.modules(release)
            return {n: path for n, path in files.items() if not is_made_by_depmod(n)}

        install(found.vmlinuz, kernel_name, modules, found.config, staging / "root")
        provenance = Provenance(pin.origin, pin.packages, pin.vendor, registry=reference.name)
        return store.add(kernel, staging, pin.version, provenance)
