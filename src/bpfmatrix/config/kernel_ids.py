"""The ids of kernels: `6.1` is a kernel of kernels.yaml, and `6.1@user` that kernel with a profile.

This module is light, since `nox -l` imports it.
"""

__all__ = ["kernel_of", "names_profile", "profile_of", "with_profile"]

_MARK = "@"


def kernel_of(id: str) -> str:
    """Return the kernel's own id."""
    return id.partition(_MARK)[0]


def names_profile(id: str) -> bool:
    """Whether an id names a profile, though perhaps one without a name."""
    return _MARK in id


def profile_of(id: str) -> str:
    """Return the name of the profile; empty if the id names none."""
    return id.partition(_MARK)[2]


def with_profile(id: str, profile: str) -> str:
    """Return the id of a kernel with a profile; the kernel's own id if the name is empty."""
    return f"{id}{_MARK}{profile}" if profile else id
