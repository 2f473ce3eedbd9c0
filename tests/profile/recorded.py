"""Files of samples, as the tracer writes them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["lost", "stack", "write_samples"]


def stack(
    frames: Iterable[tuple[Mapping[str, str], int]], count: int = 1, tid: int = 1, **more: Any
) -> dict[str, Any]:
    """Return a stack of frames: each a code object, with what is known of it, and an offset."""
    own = {"frames": list(frames), "count": count, "pid": 1, "tid": tid, "comm": "x"}
    return {**own, "process": "x", **more}


def lost(code: Mapping[str, str], offset: int, count: int, process: str = "x") -> dict[str, Any]:
    """Return samples of which only the innermost frame is known."""
    return {"lost": [(code, offset)], "pid": 1, "process": process, "count": count}


def write_samples(path: Path, *stacks: Mapping[str, Any]) -> None:
    """Write stacks, each with parts of two frames at most, and lost samples."""
    lines: list[Mapping[str, Any]] = []
    codes: dict[str, int] = {}
    parts = 0
    for each in stacks:
        frames = []
        for code, offset in each.get("frames") or each.get("lost", ()):
            key = json.dumps(code)
            if key not in codes:
                codes[key] = len(codes) + 1
                lines.append({"code": {"number": codes[key], **code}})
            frames.append([codes[key], offset])
        if "lost" in each:
            code, offset = frames[0]
            rest = {key: value for key, value in each.items() if key != "lost"}
            lines.append({"lost": {**rest, "code": code, "offset": offset}})
            continue
        own = []
        for at in range(0, len(frames), 2):
            parts += 1
            own.append(parts)
            lines.append({"part": {"number": parts, "frames": frames[at : at + 2]}})
        rest = {key: value for key, value in each.items() if key != "frames"}
        lines.append({"stack": {"parts": own, **rest}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
