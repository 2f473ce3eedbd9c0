"""Rust projects: their cargo workspaces, and the library with which they load eBPF."""

import re
from dataclasses import dataclass

from bpfmatrix.config.value_types import LoaderName
from bpfmatrix.scaffold.go_modules import is_below
from bpfmatrix.scaffold.tree import Tree, folder_of

__all__ = ["CargoProject", "find"]

_AYA = re.compile(r"^\s*(?:\[.*dependencies\.)?\"?aya(?:-ebpf|-bpf|-build)?\"?\s*[=\].]", re.M)
_NAME_AYA = re.compile(r"^\s*name\s*=\s*\"aya\"", re.M)
_LIBBPF = re.compile(r"^\s*\"?libbpf-(?:rs|cargo|sys)\"?\s*[=\].]", re.M)


@dataclass(frozen=True)
class CargoProject:
    """A workspace of cargo, or a package that is in none."""

    folder: str
    loader: LoaderName | None
    """The library that loads its eBPF; None if it has none that is known."""

    @property
    def is_aya(self) -> bool:
        """Whether it uses aya."""
        return self.loader == "aya"


def find(tree: Tree) -> tuple[CargoProject, ...]:
    """Return the outermost projects of cargo, those that load eBPF first."""
    manifests = [path for path in tree.named("Cargo.toml") if "target" not in path.split("/")]
    folders = {folder_of(path) for path in manifests}
    outermost = [
        folder
        for folder in sorted(folders)
        if not any(other != folder and is_below(folder, other) for other in folders)
    ]
    found = [
        CargoProject(
            folder,
            _loader([tree.text(path) for path in manifests if is_below(folder_of(path), folder)]),
        )
        for folder in outermost
    ]
    return tuple(sorted(found, key=lambda one: one.loader is None))


def _loader(manifests: list[str]) -> LoaderName | None:
    if any(_AYA.search(text) or _NAME_AYA.search(text) for text in manifests):
        return "aya"
    return "libbpf" if any(_LIBBPF.search(text) for text in manifests) else None
