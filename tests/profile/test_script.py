"""A script and the modules that go with it into the guest."""

from pathlib import Path

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.profile.script import Script


def test_the_modules_beside_a_script_that_it_imports_are_found(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    for name, text in {
        "main.py": "import json, beside\nfrom package.inner import x\nimport nothing_of_that_name",
        "beside.py": "import further",
        "further.py": "",
        "unused.py": "",
        "package/__init__.py": "",
        "package/inner.py": "x = 1",
    }.items():
        (tmp_path / name).write_text(text)
    script = Script.find(tmp_path / "main.py")
    assert script.files == {
        name: tmp_path / name
        for name in (
            "main.py",
            "beside.py",
            "further.py",
            "package/__init__.py",
            "package/inner.py",
        )
    }


def test_a_package_without_init_is_a_missing_module(tmp_path: Path) -> None:
    (tmp_path / "namespace").mkdir()
    (tmp_path / "namespace" / "inner.py").touch()
    (tmp_path / "beside.py").touch()
    (tmp_path / "main.py").write_text("import namespace.inner\nimport beside\n")
    assert set(Script.find(tmp_path / "main.py").files) == {"main.py", "beside.py"}


def test_a_script_that_does_not_compile_has_no_modules(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def (:\n")
    assert set(Script.find(tmp_path / "main.py").files) == {"main.py"}


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.py: no such script"):
        Script.find(tmp_path / "missing.py")
