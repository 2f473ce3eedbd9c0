"""The tasks of this checkout: those of every project with a kernels.yaml, and `docs`."""

from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from bpfmatrix.cli.tasks import namespace

__all__ = ["docs", "namespace"]

ROOT = Path(__file__).parent


@task(auto_shortflags=False, help={"check": "Write nothing, and fail if a file is out of date."})
def docs(c: Context, check: bool = False) -> None:
    """Write what is generated: kernels.yaml's schema and page, the files in guides, and more."""
    from bpfmatrix.config import reference  # noqa: PLC0415 - `invoke -l` stays fast
    from docs import file_blocks, reason_codes, source_tree  # noqa: PLC0415

    texts = {
        **reference.outputs(ROOT),
        **source_tree.outputs(ROOT),
        **reason_codes.outputs(ROOT),
        **file_blocks.outputs(ROOT),
    }
    stale = [path for path, text in texts.items() if not _has_text(path, text)]
    names = [str(path.relative_to(ROOT)) for path in stale]
    if check and stale:
        raise Exit(f"out of date: {', '.join(names)}\nRun: invoke docs", code=1)
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    print(f"wrote {', '.join(names)}" if names else "all up to date")


def _has_text(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


namespace.add_task(docs)
