"""Load and test eBPF on many Linux kernels, each in a throw-away QEMU machine."""

import functools

__version__: str
"""The version that is installed; of an editable installation, as it was when that was made."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        return _installed_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _installed_version() -> str:
    # Off the start-up path: reading metadata takes longer than all else that this imports.
    from importlib import metadata  # noqa: PLC0415

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError:  # the source is on sys.path, and nothing is installed
        return "0.0"
