"""What `init` finds in a project: Go modules, eBPF objects, Rust, test executables and runners.

`find` looks at a `Tree` and returns `Findings`, from which `rendering` writes kernels.yaml.
"""

from dataclasses import dataclass

from bpfmatrix.config.value_types import LoaderName
from bpfmatrix.scaffold import cargo, executables, go_modules, objects
from bpfmatrix.scaffold.cargo import CargoProject
from bpfmatrix.scaffold.executables import TestExecutable, TestRunner
from bpfmatrix.scaffold.go_modules import GoModule
from bpfmatrix.scaffold.objects import MakeFolder, ObjectGroup
from bpfmatrix.scaffold.tree import Tree

__all__ = ["Findings", "find"]


@dataclass(frozen=True)
class Findings:
    """What a project has that can be loaded or run in a guest."""

    arch: str
    """The architecture of the kernels: that of the tests or objects, else the host's."""
    modules: tuple[GoModule, ...] = ()
    """Go modules with tests, the one that has most to do with eBPF first."""
    objects: tuple[ObjectGroup, ...] = ()
    make: tuple[MakeFolder, ...] = ()
    """Folders whose make leaves eBPF objects beside their sources."""
    sources: tuple[str, ...] = ()
    """eBPF sources in C for which nothing was found that builds them."""
    cargo: tuple[CargoProject, ...] = ()
    executables: tuple[TestExecutable, ...] = ()
    runners: tuple[TestRunner, ...] = ()
    """Test runners that start tests themselves, such as ctest."""

    @property
    def loaders(self) -> tuple[LoaderName, ...]:
        """The loaders of the objects, each once."""
        found = [each.loader for each in self.objects]
        found += [each.loader for each in self.make]
        return tuple(dict.fromkeys(found))

    @property
    def module(self) -> GoModule | None:
        """The Go module whose tests are declared; kernels.yaml has room for one."""
        return next(iter(self.modules), None)

    @property
    def first(self) -> tuple[str, ...]:
        """The commands to be run before the objects and tests are there."""
        found = [each.first for each in self.objects if each.first and not each.count]
        if self.module and not any(each.loader == "cilium-ebpf" for each in self.make):
            found += self.module.first
        return tuple(dict.fromkeys(found))

    @property
    def other_modules(self) -> tuple[GoModule, ...]:
        """The Go modules that are not declared; those without eBPF only if none has any."""
        return tuple(
            one for one in self.modules[1:] if one.reaching or not self.modules[0].reaching
        )

    @property
    def foreign_commands(self) -> tuple[tuple[str, ...], ...]:
        """The commands of test runners that start tests themselves, each in a guest of its own."""
        rust = [one for one in self.cargo if one.loader or self.is_empty]
        return (
            *(one.commands(self.arch) for one in rust),
            *(one.commands for one in self.runners),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that kernels.yaml could declare."""
        return not (self.modules or self.objects or self.make or self.executables)


def find(tree: Tree, host: str) -> Findings:
    """Look for all that can be declared; `host` is the architecture of this host."""
    modules = go_modules.find(tree)
    rust = cargo.find(tree)
    tests = executables.find(tree, [each.folder for each in rust])
    arch = executables.common_architecture(tests, host)
    cilium = go_modules.folders_with_cilium(tree)
    aya = [each.folder for each in rust if each.is_aya]
    built = objects.find(tree, arch, cilium, aya, modules)
    return Findings(
        arch,
        modules,
        built.groups,
        built.make,
        built.sources,
        rust,
        tuple(each for each in tests if each.arch == arch),
        executables.runners(tree),
    )
