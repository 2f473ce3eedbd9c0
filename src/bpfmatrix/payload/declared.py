"""What a project declares in kernels.yaml: tests, eBPF objects, or both.

Nothing is built to tell. Only what is declared, or lies where the defaults of kernels.yaml say,
counts; a default whose folder does not exist declares nothing.
"""

from pathlib import Path

from bpfmatrix.config.models import Included
from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError
from bpfmatrix.host.front_end import command

__all__ = [
    "REGISTRY_PREFIX",
    "NoObjectsError",
    "NoTestsError",
    "declared",
    "makefile_of",
    "no_tests",
    "nothing_declared",
]

REGISTRY_PREFIX = "oci:"
"""What the name of an image of a registry with objects begins with, in `verify.objects`."""
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")  # in the order in which make(1) looks
_TESTS = """\
         payload: {go: {module: .}}                    Go tests
         payload: {binaries: [build/my_test]}          executables, each of which is a test"""
_OBJECTS = """\
         verify: {objects: [{path: "build/*.bpf.o"}]}  object files, which are loaded without a test
         payload: {ebpf: bpf}                          a folder whose Makefile builds such files"""


class NoTestsError(ConfigError):
    """There are no tests, and tests were to run."""

    def __init__(self, what: str = "", advice: str = "") -> None:
        super().__init__(
            what or "there is nothing to run: no Go tests and no binaries",
            advice or f"Declare some in kernels.yaml, or give --binary:\n{_TESTS}",
        )


class NoObjectsError(ConfigError):
    """There are no eBPF objects, and objects were to be loaded."""

    def __init__(self) -> None:
        verify = command("verify build/")
        super().__init__(
            "there is no eBPF object to load",
            f"Name some (`{verify}`), or declare them in kernels.yaml:\n{_OBJECTS}",
        )


def nothing_declared() -> ConfigError:
    """Return the error of a project for which nothing can be run."""
    return ConfigError(
        "there is nothing to run: kernels.yaml declares no tests and no eBPF objects",
        f"Declare what you have in kernels.yaml:\n{_TESTS}\n{_OBJECTS}",
    )


def no_tests(project: Project) -> NoTestsError:
    """Return the error of a project without tests; if it has objects, that says what they need."""
    if not _has_objects(project):
        return NoTestsError()
    return NoTestsError(
        "there is nothing to run: no Go tests and no binaries, only eBPF objects",
        f"Load the objects: {command('verify')}\n"
        f"       Since when they load: {command('bisect --oldest')}\n"
        f"       Or one program: {command('bisect OBJECT --program NAME')}\n"
        f"       Or declare tests in kernels.yaml:\n{_TESTS}",
    )


def declared(project: Project) -> tuple[Included, ...]:
    """Return what there is to run for a project."""
    has: dict[Included, bool] = {"verify": _has_objects(project), "tests": _has_tests(project)}
    return tuple(part for part, there in has.items() if there)


def _has_tests(project: Project) -> bool:
    payload = project.config.payload
    if payload.binaries:
        return True
    if payload.go is None:
        return False
    named = "go" in payload.model_fields_set
    return named or (project.root / payload.go.module / "go.mod").exists()


def _has_objects(project: Project) -> bool:
    if project.config.verify.objects:
        return True
    payload = project.config.payload
    if payload.ebpf is None:
        return False
    named = "ebpf" in payload.model_fields_set
    return named or makefile_of(project.root / payload.ebpf) is not None


def makefile_of(folder: Path) -> Path | None:
    """Return the makefile that `make` reads in a folder; None if there is none."""
    return next((folder / name for name in _MAKEFILES if (folder / name).is_file()), None)
