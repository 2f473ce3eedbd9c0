"""The progress of one long step: a bar on a terminal, a line for each tenth in a pipe."""

import contextlib
import time
from collections.abc import Iterator

from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.console import make_console
from bpfmatrix.host.progress import Progress

__all__ = ["shown"]


@contextlib.contextmanager
def shown() -> Iterator[Progress]:
    """Yield a Progress that shows on standard error what is reported to it."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        lines = _Lines()
        try:
            yield lines
        finally:
            heartbeat.clear(lines)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(text: str, fraction: float | None = None) -> None:
            bar.update(task, description=text, total=1.0, completed=fraction or 0.0)
            if fraction is None:
                bar.update(task, total=None)

        yield report


class _Lines:
    """Prints a line for each new text and each tenth, so that a CI job does not seem to hang."""

    def __init__(self) -> None:
        self._last = ("", 0)
        self._started = time.monotonic()

    def __call__(self, text: str, fraction: float | None = None) -> None:
        heartbeat.doing(self, "", text)
        now = (text, int((fraction or 0.0) * 10))
        if now == self._last:
            return
        self._last = now
        part = f" {now[1] * 10} %" if fraction is not None else ""
        seconds = time.monotonic() - self._started
        make_console(stderr=True).print(f"{seconds:5.0f} s  {text}{part}", markup=False)
