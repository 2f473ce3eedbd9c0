"""The option --image: a kernel that is in no kernels.yaml."""

from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.models import Config
from bpfmatrix.errors import UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.image_option import add_image
from tests.kernels.image_folders import put


def test_a_kernel_that_no_file_declares(
    cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate({"kernels": {"6.1": {"source": {"directory": "images"}}}})
    put(root / "out/bzImage", "6.1.7")
    put(root / "out/vmlinuz-6.2.0-mine", "6.2.0-mine")
    put(root / "kern/6.1.7/vmlinuz", "6.1.7-other")
    monkeypatch.setenv("KERN_DIR", str(root / "kern"))
    monkeypatch.chdir(root)
    for path, id, release in (
        ("out/bzImage", "6.1.7", "6.1.7"),
        ("out/vmlinuz-6.2.0-mine", "vmlinuz-6.2.0-mine", "6.2.0-mine"),
        ("kern/6.1.7", "6.1.7", "6.1.7-other"),
    ):
        more, named = add_image(config, Path(path))
        assert named == id
        assert kernels.provide(more.kernel(id), cache)[0].release == release
        assert list(config.kernels) == ["6.1"]
    put(root / "6.1", "6.1.7")
    assert add_image(config, Path("6.1"))[1] == "6.1-image"
    with pytest.raises(UsageError, match="--image nowhere: no such file"):
        add_image(config, Path("nowhere"))
    put(root / "text", "", b"text")
    with pytest.raises(UsageError, match="--image text is not a kernel"):
        add_image(config, Path("text"))
