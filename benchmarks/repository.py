"""A project whose tests have a repository of many files, or none of them."""

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.bench_project import BenchProject

__all__ = ["FILES", "TREE_BYTES", "make_projects"]

FILES = 2000
TREE_BYTES = 50 << 20

_KERNELS_YAML = """
kernels:
  "{kernel}": {{source: {{apt: {{suite: bookworm-security}}}}}}
payload:
  ebpf: null
  go: {{module: ., tags: []}}
  repository: {repository}
"""
_TEST = """package p

import (
	"os"
	"testing"
)

func TestFolder(t *testing.T) {
	if _, err := os.Getwd(); err != nil {
		t.Fatal(err)
	}
}
"""


def make_projects(bench: BenchProject, kernel: str) -> tuple[BenchProject, BenchProject]:
    """Write two projects with the same files: their tests have the repository, or have it not."""
    made = []
    for name, repository in (("with", "true"), ("without", "false")):
        root = bench.root / f"repository-{name}"
        _write(root, _KERNELS_YAML.format(kernel=kernel, repository=repository))
        shutil.copy(bench.root / "tasks.py", root)
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        subprocess.run(["git", "add", "-A"], cwd=root, check=True)
        made.append(BenchProject(root))
    return made[0], made[1]


def _write(root: Path, kernels_yaml: str) -> None:
    (root / "p").mkdir(parents=True)
    (root / "kernels.yaml").write_text(kernels_yaml)
    (root / "go.mod").write_text("module example.com/p\n\ngo 1.21\n")
    (root / ".gitignore").write_text("/.bpfmatrix/\n")
    (root / "p/p_test.go").write_text(_TEST)
    for number in range(FILES):
        folder = root / f"data/{number % 50:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(os.urandom(TREE_BYTES // FILES))
