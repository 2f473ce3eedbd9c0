"""The JSON that speedscope reads (https://www.speedscope.app), which shows profiles in a browser.

The format is described at https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources
and by the JSON schema https://www.speedscope.app/file-format-schema.json.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bpfmatrix import __version__
from bpfmatrix.profile.stacks import UNKNOWN_THREAD, SourceLine, Stack, frame_name, short_names

__all__ = ["render"]


def render(stacks: Iterable[Stack], title: str) -> str:
    """Return the file's text: a profile for each thread, the one with the most samples first."""
    threads: dict[tuple[str, int], list[Stack]] = {}
    for stack in stacks:
        threads.setdefault((stack.process, stack.thread), []).append(stack)
    frames: dict[SourceLine, int] = {}
    profiles = [_profile(*key, of_thread, frames) for key, of_thread in threads.items()]
    files = short_names(line.file for line in frames)
    profiles.sort(key=lambda profile: -profile["endValue"])
    file = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": title,
        "exporter": f"bpfmatrix {__version__}",
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(line, files) for line in frames]},
        "profiles": profiles,
    }
    return json.dumps(file, separators=(",", ":")) + "\n"


def _profile(
    process: str, thread: int, stacks: Sequence[Stack], frames: dict[SourceLine, int]
) -> dict[str, Any]:
    """Return the profile of a thread; frames that are new get the next numbers in `frames`."""
    samples, weights = [], []
    for stack in stacks:
        lines = stack.from_outermost()
        samples.append([frames.setdefault(line, len(frames)) for line in lines])
        weights.append(stack.count)
    return {
        "type": "sampled",
        "name": f"{process} {_thread_name(thread, stacks[0].thread_name)}".strip(),
        "unit": "none",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }


def _thread_name(thread: int, given: str) -> str:
    if thread == UNKNOWN_THREAD:
        return "unknown threads"
    return f"thread {thread} {given}".strip()


def _frame(line: SourceLine, files: Mapping[str, str]) -> dict[str, Any]:
    frame: dict[str, Any] = {"name": frame_name(line, files)}
    if line.file:
        frame["file"] = line.file
    if line.number:
        frame["line"] = line.number
    return frame
