"""The settings of kernels.yaml and of the command line in the words of the guest.

`start_settings` gives those of one command, as fields of `Start`; `setup` gives the functions of
the guest's init that set what the kernel allows.
"""

import resource
from collections.abc import Mapping
from typing import Any

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.settings import Settings
from bpfmatrix.config.value_types import CAPABILITIES, UNLIMITED
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.versions import numbers
from bpfmatrix.kernels.image import KernelImage

__all__ = ["setup", "start_settings"]

# The releases that capabilities came with, if they are younger than the oldest kernels in use.
_SINCE = {"CAP_PERFMON": (5, 8), "CAP_BPF": (5, 8), "CAP_CHECKPOINT_RESTORE": (5, 9)}
_TOKENS_SINCE = (6, 9)


def start_settings(
    settings: Settings, kernel: KernelConfig, image: KernelImage, env: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields of the `Start` of a command with these settings.

    `env` has the variables that all commands of the session have. BpfmatrixError for a capability
    that the kernel does not have.
    """
    limits = dict(settings.limits.resources)
    if settings.memlock is not None:
        limits["memlock"] = settings.memlock
    # A user has variables of its own, such as HOME, over those of the session.
    own = settings.env if settings.user else dict(settings.env.items() - env.items())
    return {
        "user": settings.user or "",
        "capabilities": _mask(settings, kernel, image),
        "limits": tuple((_number(name), _value(name, value)) for name, value in limits.items()),
        "token": bool(kernel.privileges.bpf_token),
        "env": tuple(sorted(own.items())),
    }


def _value(name: str, value: int) -> int:
    # No process may have more open files than the sysctl fs.nr_open says, by default 2^20.
    return 1 << 20 if name == "nofile" and value == UNLIMITED else value


def _number(name: str) -> int:
    number: int = getattr(resource, f"RLIMIT_{name.upper()}")
    return number


def _mask(settings: Settings, kernel: KernelConfig, image: KernelImage) -> int | None:
    if settings.capabilities is None:
        return None
    for name in settings.capabilities:
        if numbers(image.version)[:2] < _SINCE.get(name, ()):
            since = ".".join(map(str, _SINCE[name]))
            raise BpfmatrixError(
                f"{kernel.id} ({image.version}) has no {name}, which came with {since}",
                "Give CAP_SYS_ADMIN there, or leave this kernel out.",
            )
    return sum(1 << CAPABILITIES.index(name) for name in set(settings.capabilities))


def setup(kernel: KernelConfig, image: KernelImage) -> tuple[tuple[str, ...], ...]:
    """Return the functions of init that make the kernel allow what it is to allow.

    BpfmatrixError if the kernel is known not to be able to.
    """
    wanted, calls = kernel.privileges, []
    if wanted.unprivileged_bpf is not None:
        calls.append(("unprivileged_bpf", "0" if wanted.unprivileged_bpf else "2"))
    can_lock = image.config is None or image.has_option("CONFIG_SECURITY_LOCKDOWN_LSM")
    if wanted.lockdown not in (None, "none") and not can_lock:
        raise BpfmatrixError(
            f"{kernel.id} ({image.version}) has no lockdown (CONFIG_SECURITY_LOCKDOWN_LSM)",
            "Leave `lockdown` out, or leave this kernel out.",
        )
    if wanted.lockdown is not None and can_lock:
        calls.append(("lockdown", wanted.lockdown))
    if wanted.bpf_token and numbers(image.version)[:2] < _TOKENS_SINCE:
        raise BpfmatrixError(
            f"{kernel.id} ({image.version}) has no BPF tokens, which came with 6.9",
            "Leave `bpf_token` out, or leave this kernel out.",
        )
    return tuple(calls)
