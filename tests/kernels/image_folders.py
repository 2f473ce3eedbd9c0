"""Folders with kernel images, and kernels whose images are in them."""

from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from tests.kernels import synthetic


def put(path: Path, release: str, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if data is not None else synthetic.bzimage(release=release))
    return path


def put_module(folder: Path, release: str, name: str = "a.ko", data: bytes | None = None) -> Path:
    path = folder / "lib/modules" / release / "kernel" / name
    return put(path, "", synthetic.module() if data is None else data)


def declared(root: Path, id: str, directory: str = "images", arch: str = "x86_64") -> KernelConfig:
    source = {"directory": directory}
    return KernelConfig.model_validate({"id": id, "arch": arch, "source": source, "root": root})


def unreachable(root: Path, id: str) -> KernelConfig:
    source = {"oci": "127.0.0.1:9/k:1"}  # the port of "discard", where nothing listens
    return KernelConfig.model_validate({"id": id, "source": source, "root": root})
