"""What hatch does when it makes a wheel: it has bpfmatrix's own programs for guests built.

Those are the loader of `invoke verify` and the tracer of `invoke profile-python`, by Go and for
both architectures, and the tracer's eBPF object, by clang. The wheel then serves projects that have
no Go. Where a compiler is missing here too, it is made without, and the task that needs it says so.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
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
        for made in (*self._programs(Path(self._folder)), *self._object(), lister):
            build_data["force_include"][str(made)] = f"bpfmatrix/loader/{made.name}"

    def _programs(self, folder: Path) -> Iterator[Path]:
        go = shutil.which("go")
        if go is None:
            self.app.display_warning("no Go: this wheel lacks what `invoke verify` needs")
            return
        # As src/bpfmatrix/payload/shipped.py builds them.
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
        for name, (arch, goarch) in itertools.product(PROGRAMS, ARCHITECTURES.items()):
            target = folder / f"{name}-{arch}"
            subprocess.run(
                [*command, "-o", target, f"./cmd/{name}"],
                cwd=Path(self.root) / "support",
                env={**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": goarch},
                check=True,
            )
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
