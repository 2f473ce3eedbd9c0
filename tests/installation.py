"""An installation of the wheel in a folder of its own, used without a network and compilers.

`Installed` finds its programs by PATH, as a user does, in an empty folder. Its kernels come from
the cache of the user who runs the tests.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bpfmatrix.host.cache import Cache
from tests.host_tools import path_without
from tests.tool import REPOSITORY

# Nothing listens there: whatever asks for the network all the same, fails at once.
_NO_NETWORK = "http://127.0.0.1:9"
_COMPILERS = ("go", "clang", "cargo", "rustc", "gcc", "cc", "make", "bpfmatrix", "python", "pip")


@dataclass(frozen=True)
class Installed:
    """A folder with a project, and the environment in which `bpfmatrix` is found."""

    project: Path
    env: dict[str, str]
    offline: Sequence[str] = ()
    """The words before a command that take the network away."""

    @classmethod
    def with_programs(cls, bin: Path, folder: Path, offline: Sequence[str] = ()) -> "Installed":
        """Use the programs of `bin`; all else lies below `folder`, which is made."""
        tools = path_without(folder / "tools", *_COMPILERS)
        env = {
            "PATH": f"{bin}{os.pathsep}{tools}",
            "HOME": str(folder),
            "BPFMATRIX_CACHE": str(Cache.default().root),
            **{f"{name}_proxy": _NO_NETWORK for name in ("http", "https", "all")},
        }
        (folder / "project").mkdir()
        return cls(folder / "project", env, offline)

    def run(self, *words: str) -> str:
        """Run a command in the project's folder, and return what it prints; it has to pass."""
        done = subprocess.run(
            [*self.offline, *words],
            cwd=self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def declare(self, kernel: str = "6.1") -> None:
        """Write a kernels.yaml with a kernel of this repository's, and a test that passes."""
        ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["kernels"]
        script = self.project / "has-btf"
        script.write_text("#!/bin/sh\ntest -e /sys/kernel/btf/vmlinux\n")
        script.chmod(0o755)
        config = {
            "kernels": {kernel: {"source": ours[kernel]["source"]}},
            "payload": {"binaries": [script.name]},
        }
        (self.project / "kernels.yaml").write_text(yaml.safe_dump(config))
