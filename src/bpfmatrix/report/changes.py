"""The comparison of verifications as Markdown, for a comment on a pull request."""

from collections.abc import Iterable

from bpfmatrix.host.text import counted
from bpfmatrix.report.markdown import code, inline, line
from bpfmatrix.verify.compare import Change

__all__ = ["render"]

_MOST_ROWS = 200


def render(base: str, changes: Iterable[Change]) -> str:
    """Return the changes since `base`, the regressions first, and what is the same on several
    kernels once.
    """
    rows: dict[tuple[bool, str, str, str], list[str]] = {}
    for change in sorted(changes, key=lambda one: not one.regression):
        key = (change.regression, change.object, change.program, change.text)
        rows.setdefault(key, []).append(change.kernel)
    worse = sum(regression for regression, *_ in rows)
    sign = "❌" if worse else "✅"
    if not rows:
        return f"### {sign} eBPF programs: no changes\n\nCompared with {inline(base)}.\n"
    others = len(rows) - worse
    title = f"{counted(worse, 'regression')}, {counted(others, 'other change')}"
    lines = [line(["", "program", "change", "kernels"]), line(["---"] * 4)]
    for (regression, object_, program, text), kernels in list(rows.items())[:_MOST_ROWS]:
        mark = "❌" if regression else ""
        name = f"{code(program)} {inline(object_)}".rstrip()
        lines.append(line([mark, name, inline(text), ", ".join(map(code, kernels))]))
    if len(rows) > _MOST_ROWS:
        lines.append(f"\nAnd {len(rows) - _MOST_ROWS} more.")
    table = "\n".join(lines)
    return f"### {sign} eBPF programs: {title}\n\nCompared with {inline(base)}.\n\n{table}\n"
