"""The jobs of a CI pipeline that has one for each kernel, as GitHub's `matrix` takes them."""

from collections.abc import Sequence
from typing import TypedDict

from bpfmatrix.config.models import Config

__all__ = ["Job", "Plan", "plan"]


class Job(TypedDict):
    """A job, whose keys are variables of the job: `${{ matrix.kernel }}`."""

    kernel: str
    """The kernel's id."""
    arch: str
    """The kernel's name of its architecture, such as `aarch64`."""


class Plan(TypedDict):
    """What `strategy.matrix` is, of GitHub's workflow syntax."""

    include: list[Job]


def plan(config: Config, ids: Sequence[str]) -> Plan:
    """Return a job for each of these kernels, in this order."""
    return {"include": [{"kernel": id, "arch": config.kernel(id).arch} for id in ids]}
