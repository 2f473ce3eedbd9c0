"""The whole payload of a run: its objects and tests are built, and its executables checked."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.config.settings import Binary, Settings, matches_package, matching_settings, merged
from bpfmatrix.errors import ConfigError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload import ebpf, extra_files, go, repository
from bpfmatrix.payload.declared import no_tests
from bpfmatrix.payload.executables import check_loader, executable
from bpfmatrix.payload.model import Executable, Payload
from bpfmatrix.rootfs.root import Root

__all__ = ["payload"]


def payload(
    project: Project,
    arch: str,
    binaries: Sequence[Path] = (),
    progress: Progress = silent,
    root: Root | None = None,
    *,
    tests_needed: bool = True,
    symbols: bool = False,
) -> tuple[Payload, bool]:
    """Build and check all that runs in the guest; the bool tells whether anything was built.

    `binaries` replace the tests that kernels.yaml declares. `root` is the root of the tests, if
    that is not the guest's own. With `symbols`, Go's tests are built for a debugger.
    NoTestsError if there are no tests and `tests_needed`.
    """
    settings = project.config.payload
    big_endian = ARCHITECTURES[arch].big_endian
    built_objects = ebpf.objects(project, progress, big_endian=big_endian)
    tests: list[Executable] = []
    changed = built_objects.changed
    goroot = ""
    if binaries:
        own = {(project.root / one.path).resolve(): one for one in settings.binaries}
        for path in binaries:
            test = executable(path, arch, root)
            entry = own.get(path.resolve())
            tests.append(_declared(project, test, entry) if entry else _configured(project, test))
    else:
        built_tests = go.build_tests(project, arch, progress, symbols=symbols)
        changed = changed or built_tests.changed
        goroot = built_tests.goroot
        packages = [_of_package(test, root) for test in built_tests.tests]
        tests = _of_packages(project, packages)
        for one in settings.binaries:
            tests.append(_declared(project, executable(project.root / one.path, arch, root), one))
    extra = {
        **extra_files.named(project.root, settings.files),
        **extra_files.listed(project, settings.listed, arch, progress),
    }
    if not tests and tests_needed:
        raise no_tests(project)
    files = _repository(project, tests, root)
    env = dict(settings.env)
    return Payload(tuple(tests), built_objects.files, env, extra, files, goroot), changed


def _of_packages(project: Project, tests: Sequence[Executable]) -> list[Executable]:
    """Return the tests of Go packages with their settings.

    ConfigError if a pattern of `payload.packages` matches no package.
    """
    patterned = project.config.payload.packages
    names = [test.name for test in tests]
    for pattern in patterned:
        if not any(matches_package(pattern, name) for name in names):
            raise ConfigError(
                f"kernels.yaml: payload.packages: {pattern!r} matches no Go package with tests",
                f"There are: {', '.join(names) or 'none'}.",
            )
    return [_configured(project, t, *matching_settings(t.name, patterned)) for t in tests]


def _declared(project: Project, test: Executable, entry: Binary) -> Executable:
    """Return an executable of kernels.yaml with its settings.

    A Go test expects to find files in its working directory. Nobody knows the package that it was
    built from, so this is the folder of kernels.yaml.
    """
    folder = project.root if test.format == "go" else None
    return _configured(project, dataclasses.replace(test, folder=folder), entry)


def _configured(project: Project, test: Executable, *own: Settings) -> Executable:
    """Return an executable with the settings of the payload, and its own ones over them."""
    settings = merged(project.config.payload, *own)
    folder = project.root / settings.folder if settings.folder else test.folder
    return dataclasses.replace(test, settings=settings, folder=folder)


def _repository(
    project: Project, tests: Sequence[Executable], root: Root | None
) -> repository.Repository | None:
    """Return the repository's files if one of the tests runs in a folder of the repository."""
    chosen = project.config.payload.repository
    if (
        not chosen
        or (root is not None and root.is_host)
        or all(test.folder is None for test in tests)
    ):
        return None
    found = repository.of_project(project, () if chosen is True else chosen)
    return found if any(t.folder and found.contains(t.folder) for t in tests) else None


def _of_package(test: go.GoTestBinary, root: Root | None) -> Executable:
    """Return the test binary of a Go package, which runs in the package's folder."""
    check_loader(test.path, test.loader, root)
    return Executable(test.path, "go", test.package, test.folder)
