"""What hatch does when it makes a wheel: it has bpfmatrix's own programs for guests built.

Those are the loader of `invoke verify` and the tracer of `invoke profile-python`, by Go and for
all architectures, the tracer's eBPF object, by clang, and the guest's small programs in C, by
clang and for all architectures. The wheel then serves projects that have neither Go nor clang.
Where a compiler is missing here too, it is made without, and the task that needs it says so. Only
the programs in C are then built where the wheel is used: it has their sources.
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

# Run as a file: where a wheel is made, the package may not be installed, nor what it depends on.
_ARCHITECTURE_FILE = Path(__file__).parent / "src/bpfmatrix/host/architecture.py"
ARCHITECTURES = runpy.run_path(str(_ARCHITECTURE_FILE))["ARCHITECTURES"]
PROGRAMS = ("bpfload", "python-tracer")
OBJECT = "python_tracer.bpf.o"


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds `bpfmatrix/loader/<program>-<arch>`, and what the tracer needs, to a wheel."""

    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build all; `version` is `editable` where the checkout itself is installed."""
        if version == "editable":
            return
        self._folder = tempfile.mkdtemp()
        lister = Path(self.root) / "support/host_python.py"
        folder = Path(self._folder)
        for made in (*self._programs(folder), *self._small(folder), *self._object(), lister):
            build_data["force_include"][str(made)] = f"bpfmatrix/loader/{made.name}"

    def _programs(self, folder: Path) -> Iterator[Path]:
        go = shutil.which("go")
        if go is None:
            self.app.display_warning("no Go: this wheel lacks what `invoke verify` needs")
            return
        # As src/bpfmatrix/payload/shipped.py builds them.
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
        for name, arch in itertools.product(PROGRAMS, ARCHITECTURES.values()):
            target = folder / f"{name}-{arch.name}"
            subprocess.run(
                [*command, "-o", target, f"./cmd/{name}"],
                cwd=Path(self.root) / "support",
                env={**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": arch.go},
                check=True,
            )
            yield target

    def _small(self, folder: Path) -> Iterator[Path]:
        """Build the guest's programs in C by the code of a checkout; it needs no other package."""
        sys.path.insert(0, str(Path(self.root) / "src"))
        from bpfmatrix.errors import BpfmatrixError  # noqa: PLC0415
        from bpfmatrix.guest import programs  # noqa: PLC0415 - not before it can be found

        for source, arch in itertools.product(programs.sources(), ARCHITECTURES):
            target = folder / f"{source.stem}-{arch}"
            try:
                programs.compile_program(source, arch, target)
            except BpfmatrixError as error:
                self.app.display_warning(f"this wheel lacks {target.name}: {error}")
            else:
                yield target

    def _object(self) -> Iterator[Path]:
        folder = Path(self.root) / "ebpf"
        try:
            subprocess.run(["make", "-C", folder, OBJECT], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            self.app.display_warning(
                "no clang: this wheel lacks what `invoke profile-python` needs"
            )
            return
        yield folder / OBJECT

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
