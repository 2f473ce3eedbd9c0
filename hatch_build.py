"""A build hook of hatch: it builds bpfmatrix's own guest programs into a wheel.

Go builds the supervisor of `invoke verify`, its loader for cilium/ebpf, and the tracer of `invoke
profile-python`; clang builds the loader for libbpf, the tracer's eBPF object and the guest's small
programs in C. All but the object are built once for each architecture. The wheel then works on
machines that have neither Go nor clang.

If a compiler is missing where the wheel is made, or the network from which the loader's libraries
come, the wheel lacks these programs, and a task that needs one says so. The guest's small programs
are an exception: the wheel has their sources, and they are built where it is used.
"""

import itertools
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# This runs the file instead of importing it: where a wheel is made, neither bpfmatrix nor its
# dependencies may be installed.
_ARCHITECTURE_FILE = Path(__file__).parent / "src/bpfmatrix/host/architecture.py"
ARCHITECTURES = runpy.run_path(str(_ARCHITECTURE_FILE))["ARCHITECTURES"]
# A wheel that is to be made faster has the programs of these only, separated by commas.
if chosen := os.environ.get("BPFMATRIX_WHEEL_ARCHITECTURES"):
    ARCHITECTURES = {name: ARCHITECTURES[name] for name in chosen.split(",")}
GO_PROGRAMS = ("bpfload", "loader-cilium-ebpf", "python-tracer")
TRACER_OBJECT = "python_tracer.bpf.o"


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds `bpfmatrix/loader` to a wheel: the guest programs, and the files of the tracer."""

    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the programs, unless `version` is `editable`: a checkout builds its own."""
        if version == "editable":
            return
        self._folder = tempfile.mkdtemp()
        lister = Path(self.root) / "support/host_python.py"
        folder = Path(self._folder)
        for file in (
            *self._go_programs(folder),
            *self._c_programs(folder),
            *self._loaders(folder),
            *self._tracer_object(),
            lister,
        ):
            build_data["force_include"][str(file)] = f"bpfmatrix/loader/{file.name}"

    def _go_programs(self, folder: Path) -> Iterator[Path]:
        go = shutil.which("go")
        if go is None:
            self.app.display_warning("no Go: this wheel lacks what `invoke verify` needs")
            return
        # The same command as in src/bpfmatrix/payload/shipped.py.
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
        module = Path(self.root) / "support"
        there = [name for name in GO_PROGRAMS if (module / "cmd" / name).is_dir()]
        for name, arch in itertools.product(there, ARCHITECTURES.values()):
            target = folder / f"{name}-{arch.name}"
            subprocess.run(
                [*command, "-o", target, f"./cmd/{name}"],
                cwd=module,
                env={**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": arch.go},
                check=True,
            )
            yield target

    def _loaders(self, folder: Path) -> Iterator[Path]:
        """Build those loaders that are not written in Go, with the package's own code."""
        sys.path.insert(0, str(Path(self.root) / "src"))
        try:
            from bpfmatrix.errors import BpfmatrixError  # noqa: PLC0415 - after the path above
            from bpfmatrix.host.cache import Cache  # noqa: PLC0415
            from bpfmatrix.payload import shipped  # noqa: PLC0415
        except ImportError as error:  # see build-system.requires in pyproject.toml
            self.app.display_warning(f"this wheel lacks loaders of `invoke verify`: {error}")
            return

        def say(text: str, fraction: float | None = None) -> None:
            self.app.display_info(text)

        programs = [each for each in shipped.LOADERS.values() if each.name not in GO_PROGRAMS]
        for program, arch in itertools.product(programs, ARCHITECTURES):
            target = folder / f"{program.name}-{arch}"
            try:
                shipped.build(program, arch, Cache.default(), target, say)
            except BpfmatrixError as error:
                self.app.display_warning(f"this wheel lacks {target.name}: {error}")
            else:
                yield target

    def _c_programs(self, folder: Path) -> Iterator[Path]:
        """Build the guest's programs in C, with the package's own code."""
        sys.path.insert(0, str(Path(self.root) / "src"))
        from bpfmatrix.errors import BpfmatrixError  # noqa: PLC0415
        from bpfmatrix.guest import programs  # noqa: PLC0415 - after the path above

        for source, arch in itertools.product(programs.sources(), ARCHITECTURES):
            target = folder / f"{source.stem}-{arch}"
            try:
                programs.compile_program(source, arch, target)
            except BpfmatrixError as error:
                self.app.display_warning(f"this wheel lacks {target.name}: {error}")
            else:
                yield target

    def _tracer_object(self) -> Iterator[Path]:
        folder = Path(self.root) / "ebpf"
        try:
            subprocess.run(["make", "-C", folder, TRACER_OBJECT], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            self.app.display_warning(
                "no clang: this wheel lacks what `invoke profile-python` needs"
            )
            return
        yield folder / TRACER_OBJECT

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the built programs, which are in the wheel now."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
