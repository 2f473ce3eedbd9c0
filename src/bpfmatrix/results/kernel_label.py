"""The label of a kernel in tables and messages: its release, or its id with the release.

`6.1.192` says all about the entry `6.1` of kernels.yaml. It says too little about `6.1-arm64` or
`6.1-debug`, which may be of the same release: these are `6.1-arm64 (6.1.192)`.
"""

from collections.abc import Iterable

from bpfmatrix.results.outcome import GuestRun

__all__ = ["heading", "kernel_label", "label_of"]


def kernel_label(kernel: str, version: str, others: Iterable[str] = ()) -> str:
    """Return the label of a kernel, given its id and its upstream release.

    The release is empty if the kernel was not booted. `others` are the ids of the kernels beside
    it: if the release is also one of the series of another id, the label has the id.
    """
    if version in ("", kernel):
        return kernel
    belongs = [id for id in {kernel, *others} if _is_of(version, id)]
    return version if belongs == [kernel] else f"{kernel} ({version})"


def label_of(run: GuestRun, others: Iterable[str] = ()) -> str:
    """Return the label of a run's kernel beside the kernels with the ids `others`."""
    return kernel_label(run.kernel, run.version, others)


def _is_of(version: str, id: str) -> bool:
    """Return whether an id is a release, or the series of a release."""
    return f"{version}.".startswith(f"{id}.")


def heading(label: str) -> str:
    """Return a label as the head of a narrow column: in two lines if it has two words or more."""
    return label.replace(" ", "\n", 1)
