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
    """Write what is generated from the models of kernels.yaml: JSON schema, documentation."""
    from bpfmatrix.config import reference as generated  # noqa: PLC0415 - `invoke -l` stays fast

    stale = generated.stale(ROOT)
    names = [str(path.relative_to(ROOT)) for path in stale]
    if check and stale:
        raise Exit(f"out of date: {', '.join(names)}\nRun: invoke docs", code=1)
    texts = generated.outputs(ROOT)
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    print(f"wrote {', '.join(names)}" if names else "all up to date")


namespace.add_task(docs)
