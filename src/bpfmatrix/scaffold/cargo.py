"""Rust projects: their cargo workspaces, and the library with which they load eBPF."""

import re
import shlex
from dataclasses import dataclass

from bpfmatrix.config.value_types import LoaderName
from bpfmatrix.scaffold.go_modules import is_below
from bpfmatrix.scaffold.tree import Tree, folder_of

__all__ = ["EXEC", "CargoProject", "find"]

EXEC = "bpfmatrix exec --kernel 6.1"
"""The program that starts one test of a runner on a kernel (docs/test-runners.md)."""
_AYA = re.compile(r"^\s*(?:\[.*dependencies\.)?\"?aya(?:-ebpf|-bpf|-build)?\"?\s*[=\].]", re.M)
_NAME_AYA = re.compile(r"^\s*name\s*=\s*\"aya\"", re.M)
_LIBBPF = re.compile(r"^\s*\"?libbpf-(?:rs|cargo|sys)\"?\s*[=\].]", re.M)


@dataclass(frozen=True)
class CargoProject:
    """A workspace of cargo, or a package that is in none."""

    folder: str
    loader: LoaderName | None
    """The library that loads its eBPF; None if it has none that is known."""

    def commands(self, arch: str) -> tuple[str, ...]:
        """Return the command that runs its tests on a kernel of an architecture."""
        # https://doc.rust-lang.org/cargo/reference/config.html#targettriplerunner
        variable = f"CARGO_TARGET_{arch.upper()}_UNKNOWN_LINUX_GNU_RUNNER"
        change = "" if self.folder == "." else f"cd {shlex.quote(self.folder)} && "
        return (f"{change}{variable}='{EXEC}' cargo test",)

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
