from pathlib import Path

import pytest

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.kernels import sources
from bpfmatrix.kernels.sources import IndexedSource, KernelSource

VALUES: dict[str, object] = {
    "apt": {"suite": "bookworm-security"},
    "dnf": {"repository": "https://example.org/repository", "key": "key.asc"},
    "package": {"files": ["kernel.deb"]},
    "oci": "example.org/kernel:6.1",
    "directory": Path("kernels"),
    "build": {"version": "6.1"},
}


@pytest.mark.parametrize("kind", list(Source.model_fields))
def test_each_key_of_source_has_a_class(kind: str) -> None:
    source = Source.model_validate({kind: VALUES[kind]})
    found = sources.of(KernelConfig.model_validate({"id": "6.1", "source": source}))
    assert isinstance(found, KernelSource)
    assert isinstance(found, IndexedSource) == (kind in ("apt", "dnf"))
