"""Tells a project once that it may choose the loader that it uses itself.

A project whose Go module requires cilium/ebpf loads its objects with that library. libbpf, with
which `verify` loads objects by default, may say something else of them.
"""

import re

from bpfmatrix.config.project import Project
from bpfmatrix.session.observer import Observer

__all__ = ["remind_of_choice", "uses_cilium_ebpf"]

_REQUIREMENT = re.compile(r"^\s*(?:require\s+)?github\.com/cilium/ebpf\s+v", re.M)
_TOLD = "loader-choice-told"


def remind_of_choice(project: Project, observer: Observer) -> None:
    """Report the choice in one line, if the project has not made it and was not told before."""
    verify = project.config.verify
    if verify.loader or any(entry.loader for entry in verify.objects):
        return
    told = project.state / _TOLD
    if told.exists() or not uses_cilium_ebpf(project):
        return
    observer.step(
        "",
        "loader",
        "libbpf; your go.mod has cilium/ebpf: `verify: {loader: cilium-ebpf}` asks that instead",
        "",
    )
    told.touch()


def uses_cilium_ebpf(project: Project) -> bool:
    """Whether the project's Go module, or one beside kernels.yaml, requires cilium/ebpf."""
    go = project.config.payload.go
    folders = [project.root] + ([project.root / go.module] if go is not None else [])
    for folder in folders:
        try:
            text = (folder / "go.mod").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if _REQUIREMENT.search(text):
            return True
    return False
