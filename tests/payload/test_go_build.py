from pathlib import Path

import pytest

from bpfmatrix.payload.go_build import GoPackage, batches


def package(import_path: str, name: str = "x") -> GoPackage:
    return GoPackage(import_path, name, Path("/m"))


@pytest.mark.parametrize(
    ("import_path", "binary"),
    [
        ("example.org/m/a", "a.test"),
        ("example.org/m/v2", "m.test"),
        ("example.org/m/v1", "v1.test"),
        ("example.org/m/v02", "v02.test"),
        ("v2", "v2.test"),
        ("command-line-arguments", "x.test"),
    ],
)
def test_a_test_binary_has_the_name_that_go_gives_to_it(import_path: str, binary: str) -> None:
    assert package(import_path).binary == binary


def test_packages_of_one_name_are_in_different_batches() -> None:
    packages = [package(name) for name in ("m/a/x", "m/b/x", "m/y", "m/c/x", "m/y/v2")]
    found = [[one.import_path for one in batch] for batch in batches(packages)]
    assert found == [["m/a/x", "m/y"], ["m/b/x", "m/y/v2"], ["m/c/x"]]
    assert batches([]) == []
