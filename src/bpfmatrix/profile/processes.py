"""The processes that a script started, and what is said of those that were not sampled."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bpfmatrix.host.text import counted

__all__ = ["notes"]

_SHOWN_NAMES = 5


def notes(processes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each kind of process that was not sampled.

    `processes` is the list of that name in the tracer's summary (support/cmd/python-tracer).
    """
    others: list[str] = []
    refused: dict[str, list[str]] = {}
    for process in processes:
        if not process.get("python"):
            names = refused.setdefault(why, []) if (why := process.get("refusal")) else others
            names.append(re.sub(r" \(\d+\)$", "", process["name"]))
    found = []
    if others:
        each = "it" if len(others) == 1 else "they"
        found.append(
            f"{counted(len(others), 'process', 'processes')} in which no Python was found before "
            f"{each} ended: {_listed(others)}"
        )
    found += [f"not sampled: {_listed(names)}: {why}" for why, names in refused.items()]
    return found


def _listed(names: Iterable[str]) -> str:
    """Return the distinct names, the first few of them."""
    distinct = list(dict.fromkeys(names))
    more = [f"{len(distinct) - _SHOWN_NAMES} more"] if len(distinct) > _SHOWN_NAMES else []
    return ", ".join(distinct[:_SHOWN_NAMES] + more)
