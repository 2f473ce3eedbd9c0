"""One checkout: where its kernels.yaml is, what that says, and where its state lies."""

from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config import kernels_yaml, models
from bpfmatrix.config.models import Config
from bpfmatrix.host.cache import Cache

__all__ = ["Project"]


@dataclass(frozen=True)
class Project:
    """A folder with a kernels.yaml."""

    root: Path
    config: Config
    cache: Cache

    @classmethod
    def load(cls, root: Path | None = None) -> "Project":
        """Read the project in `root`, or the one that the working directory lies in."""
        if root is None:
            here = Path.cwd()
            root = next(
                (
                    folder
                    for folder in (here, *here.parents)
                    if (folder / models.FILE_NAME).exists()
                ),
                here,
            )
        return cls(root, kernels_yaml.load(root / models.FILE_NAME), Cache.default())

    @property
    def state(self) -> Path:
        """The folder of results, logs and built files; git ignores it."""
        folder = self.root / ".bpfmatrix"
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
        return folder

    @property
    def results(self) -> Path:
        """The folder with a JSON file for each kernel."""
        return self.state / "results"

    def relative(self, path: Path) -> str:
        """Return a path as it is shown: relative to the project where it lies in it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)
