"""The task `verify`: eBPF objects loaded on many kernels, with no test written for them."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit

from bpfmatrix.cli.options import kernel_ids, with_available
from bpfmatrix.cli.tasks import words
from bpfmatrix.cli.tasks.common import bpfmatrix_task
from bpfmatrix.config.project import Project
from bpfmatrix.config.value_types import parse_duration, parse_max_insns
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from bpfmatrix.verify.options import VerifyOptions

__all__ = ["verify"]

words.take("verify", "objects")


# No short flags: invoke would make letters of what is left over, such as -h.
@bpfmatrix_task(iterable=["objects", "set", "map_size"], auto_shortflags=False)
def verify(
    c: Context,
    objects: Any = None,
    kernels: str | None = None,
    kernel: str = "",
    available: bool = False,
    jobs: int = 0,
    cold: bool = False,
    attach: bool = False,
    max_insns: str | None = None,
    limit: str | None = None,
    set: Any = None,
    map_size: Any = None,
    statistics: bool = False,
    annotate: str = "",
    save: str = "",
    against: str = "",
    threshold: str = "10%",
    json: bool = False,
) -> None:
    """Load every program of eBPF objects on every kernel, and say what the verifier says.

    Objects are the words behind it: invoke verify a.bpf.o b.bpf.o. Without any, they are those of
    verify: in kernels.yaml, or else the ones that the project builds.
    """
    from bpfmatrix.cli import verify  # noqa: PLC0415 - `invoke -l` stays fast
    from bpfmatrix.verify.options import VerifyOptions  # noqa: PLC0415

    if kernel and kernels is not None:
        raise UsageError("name the kernels, either by --kernel or by --kernels")
    asked = VerifyOptions(
        objects=tuple(objects or ()),
        set=_pairs("--set", set or ()),
        map_sizes=_pairs("--map-size", map_size or ()),
        attach=attach,
        max_insns=None
        if max_insns is None
        else _checked("--max-insns", max_insns, parse_max_insns),
        limit_seconds=None if limit is None else _checked("--limit", limit, parse_duration),
        cold=cold,
    )
    project, default = Project.load(), None
    if available:
        project, default = with_available(project, kernels)
    if kernel:
        ids = [project.config.kernel(kernel).id]
    else:
        ids = kernel_ids(project.config, kernels, default)
    if annotate:
        _annotate(project, ids, asked, annotate, against=against, save=save)
        return
    status = verify.verify(
        project,
        ids,
        asked,
        verify.OutputOptions(
            jobs=jobs or None,
            statistics=statistics,
            save=Path(save) if save else None,
            against=Path(against) if against else None,
            threshold=_share(threshold),
            as_json=json,
        ),
    )
    if status:
        raise Exit(code=status)


def _annotate(
    project: Project, ids: list[str], asked: "VerifyOptions", program: str, **other: str
) -> None:
    from bpfmatrix.cli import verify  # noqa: PLC0415

    for name, value in other.items():
        if value:
            raise UsageError(f"--annotate and --{name} don't go together")
    if len(ids) != 1:
        raise UsageError("--annotate is for one kernel", "Name it: --kernel 6.1.")
    if status := verify.annotate(project, ids[0], asked, program):
        raise Exit(code=status)


def _pairs(option: str, given: Iterable[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {text}: expected NAME=VALUE")
        found[name] = value
    return found


def _checked(option: str, text: str, parse: Any) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def _share(text: str) -> float:
    number = text.removesuffix("%")
    if not text.endswith("%") or not number.isdecimal():
        raise UsageError(f"--threshold {text}: expected a share such as 10%")
    return int(number) / 100
