"""Maps that could not be made: from the kernel's answer to a code and a reason."""

from bpfmatrix.results.verification import Code
from bpfmatrix.verify.reasons.facts import Failure, MapFacts, Reason

__all__ = ["of_map"]

# Maps that have no entries: programs of each socket, task, inode and cgroup, and struct_ops.
_WITHOUT_SIZE = (
    "sk_storage",
    "task_storage",
    "inode_storage",
    "cgrp_storage",
    "cgroup_storage",
    "percpu_cgroup_storage",
    "struct_ops",
)


def of_map(failure: Failure) -> Reason:
    """Return why a map could not be made.

    A kernel returns EINVAL for a map type that it does not have, but also for other reasons, so
    the answer of the loader's probe decides between these.
    """
    map = failure.map or MapFacts("of this program")
    kind = f" ({map.type})" if map.type else ""
    if failure.type_supported is False:
        type = f"map type {map.type}" if map.type else "such map type"
        return Reason(Code.UNSUPPORTED_MAP_TYPE, f"this kernel has no {type} (map {map.name})")
    if failure.errno == "E2BIG":
        text = f"map {map.name}{kind} is larger than this kernel takes (E2BIG)"
        return Reason(Code.MAP_CREATE_FAILED, text)
    if failure.errno == "ENOMEM":
        entries = f", {map.entries:,} entries" if map.entries else ""
        type = f" ({map.type}{entries})" if map.type else ""
        return Reason(Code.NO_MEMORY, f"no memory for map {map.name}{type}")
    if (
        failure.map
        and map.entries == 0
        and failure.errno == "EINVAL"
        and map.type not in _WITHOUT_SIZE
    ):
        return Reason(
            Code.MAP_CREATE_FAILED,
            f"map {map.name}{kind} has no size: give its size at run time with "
            f"--map-size {map.name}=ENTRIES",
        )
    # libbpf tries once more without BTF, and says so before.
    words = [line for line in failure.words if "Retrying without BTF" not in line]
    said = words[0] if words else failure.errno
    text = said if map.name in said else f"map {map.name}{kind} could not be made: {said}"
    return Reason(Code.MAP_CREATE_FAILED, text)
