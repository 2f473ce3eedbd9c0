"""Hints: what may be behind a failure that its own words do not say. A hint changes no verdict."""

import re
import resource
from collections.abc import Iterable

from bpfmatrix.host.versions import numbers
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import FINE
from bpfmatrix.vm.protocol import Start

__all__ = ["memlock_hint"]

# "bpf: Switch to memcg-based memory accounting for maps" and its series, Linux 5.11.
_NOT_COUNTED_SINCE = (5, 11)
_REFUSED = re.compile(r"operation not permitted|\bEPERM\b", re.I)


def memlock_hint(version: str, tests: Iterable[tuple[TestResult, Start]]) -> str:
    """Return what to do if the limit of locked memory may have refused maps and programs.

    Each test comes with how it was started. The result is empty if no test failed so.
    """
    if not () < numbers(version)[:2] < _NOT_COUNTED_SINCE:
        return ""
    failed = [test.name for test, start in tests if _may_be_refused(test, start)]
    if not failed:
        return ""
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return (
        f"{failed[0]}{more}: before Linux 5.11, eBPF maps and programs count as locked memory, "
        "which was limited. Call rlimit.RemoveMemlock (setrlimit(2)), or set `memlock: unlimited`."
    )


def _may_be_refused(test: TestResult, start: Start) -> bool:
    limit = dict(start.limits).get(resource.RLIMIT_MEMLOCK, 0)
    said = f"{test.reason}\n{test.output}"
    return test.outcome not in FINE and limit >= 0 and _REFUSED.search(said) is not None
