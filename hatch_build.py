"""What hatch does when it makes a wheel: it has Go build the loader for both architectures.

The wheel then serves projects that have no Go. Where there is none here either, the wheel is made
without the loader, and `invoke verify` says so.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds `bpfmatrix/loader/bpfload-<arch>` to a wheel."""

    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the loaders; `version` is `editable` where the checkout itself is installed."""
        if version == "editable":
            return
        go = shutil.which("go")
        if go is None:
            self.app.display_warning("no Go: this wheel has no loader for `invoke verify`")
            return
        self._folder = tempfile.mkdtemp()
        for arch, goarch in ARCHITECTURES.items():
            target = Path(self._folder) / f"bpfload-{arch}"
            # As src/bpfmatrix/build.py builds it.
            command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
            subprocess.run(
                [*command, "-o", target, "./cmd/bpfload"],
                cwd=Path(self.root) / "support",
                env={**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": goarch},
                check=True,
            )
            build_data["force_include"][str(target)] = f"bpfmatrix/loader/{target.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
