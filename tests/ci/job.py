"""A job of CI with a checkout, whose results are written by hand, as a command would leave them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bpfmatrix.results import files
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult, Statistics, Verification


@dataclass
class Job:
    """A job whose scripts are run one after another, by a real shell, and with a remote."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checkout.mkdir(parents=True)
        (self.folder / "temp").mkdir()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": str(self.folder), **self.environment}

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    def runs(self, command: list[str], status: int = 0, /, **more: str) -> str:
        """Run a command, which must end with this status; return its output."""
        done = subprocess.run(
            command,
            cwd=self.checkout,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def declare(self, *kernels: str, matrix: tuple[str, ...] = ()) -> None:
        arch = {id: "aarch64" if id.endswith("-arm64") else "x86_64" for id in kernels}
        declared = {id: {"arch": arch[id], "source": {"oci": f"example/{id}"}} for id in kernels}
        text = json.dumps({"kernels": declared, **({"matrix": matrix} if matrix else {})})
        (self.checkout / "kernels.yaml").write_text(text)

    def verified(self, folder: str, kernel: str, insns: int, **more: Any) -> None:
        """Leave the result of `verify` on a kernel."""
        statistics = Statistics(instructions_processed=insns)
        program = ProgramResult("a.bpf.o", "on_exec", Outcome.PASSED, statistics=statistics, **more)
        found = Verification(kernel, Outcome.PASSED, version=f"{kernel}.9", programs=(program,))
        files.write(found, self.checkout / folder / "verify" / f"{kernel}.json")

    def git(self, *words: str) -> str:
        command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *words]
        return subprocess.run(
            command, cwd=self.checkout, check=True, capture_output=True, text=True
        ).stdout

    @property
    def remote(self) -> str:
        return f"file://{self.folder}/remote.git"

    def commit_and_push(self, branch: str) -> None:
        if not (self.folder / "remote.git").exists():
            self.git("init", "--quiet", "--initial-branch", branch)
            self.git("init", "--quiet", "--bare", str(self.folder / "remote.git"))
            self.git("remote", "add", "origin", self.remote)
        (self.checkout / ".gitignore").write_text("/.bpfmatrix/\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A commit")
        self.git("push", "--quiet", "origin", f"HEAD:{branch}")
