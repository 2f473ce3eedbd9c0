"""A project: the folder of a kernels.yaml, its content, and the folder of the project's state."""

from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config import archives, kernels_yaml
from bpfmatrix.config.models import Config
from bpfmatrix.host.cache import Cache

__all__ = ["Project"]


@dataclass(frozen=True)
class Project:
    """A project that is tested, such as a checkout of an eBPF project."""

    root: Path
    """The folder of kernels.yaml."""
    config: Config
    cache: Cache
    """The cache that all projects of this user share."""

    @classmethod
    def load(cls, root: Path | None = None) -> "Project":
        """Read the project in `root`; ConfigError if its kernels.yaml is missing or wrong.

        Without `root`, search the working directory and the folders above it for a kernels.yaml.
        The archives that it names are those of this process from then on.
        """
        if root is None:
            root = cls.root_above(Path.cwd())
        config = kernels_yaml.load(kernels_yaml.place_in(root))
        archives.declare(config.archives)
        return cls(root, config, Cache.default())

    @staticmethod
    def root_above(folder: Path) -> Path:
        """Return the nearest folder with a kernels.yaml, from this one upwards; else this one."""
        above = (folder, *folder.parents)
        return next((each for each in above if kernels_yaml.exists_in(each)), folder)

    @property
    def state(self) -> Path:
        """The folder of results, logs and built files, which is made here; git ignores it."""
        folder = self.root / ".bpfmatrix"
        if not (folder / ".gitignore").exists():  # a cache of CI may have restored only a part
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
        return folder

    @property
    def results(self) -> Path:
        """The folder with the results of the tests, a JSON file for each kernel."""
        return self.state / "results"

    def relative(self, path: Path) -> str:
        """Return a path for messages: relative to the project if it is in the project."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)
