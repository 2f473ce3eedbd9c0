"""bpfmatrix's own programs in the cache, built from this checkout."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.host.integrity import record_of
from bpfmatrix.payload import shipped
from tests.damage import DAMAGES, Notes, flip_bit_quietly


@pytest.mark.parametrize("harm", [flip_bit_quietly, DAMAGES[2], Path.unlink])
def test_a_damaged_loader_is_built_again(
    library_project: Project, harm: Callable[[Path], None]
) -> None:
    notes = Notes()
    loader = shipped.supervisor(library_project, "x86_64", notes)
    good = loader.read_bytes()
    assert notes.told == []
    for path in (loader, record_of(loader)):
        harm(path)
        missing = not loader.exists()
        assert shipped.supervisor(library_project, "x86_64", notes) == loader
        assert loader.read_bytes() == good
        assert loader.stat().st_mode & 0o777 == 0o755
        assert len(notes.told) == (0 if missing else 1)
        notes.told.clear()
    assert [path.name for path in loader.parent.parent.iterdir()] == [loader.parent.name]


def test_an_unknown_loader_is_refused(library_project: Project) -> None:
    with pytest.raises(UsageError) as caught:
        shipped.loader(library_project, "libbfp", "x86_64")
    assert caught.value.what == "there is no loader 'libbfp' (did you mean \"libbpf\"?)"
    assert caught.value.advice.startswith("There are libbpf, ")
