"""The generated pages about the source: the picture of the packages, and the tree."""

from pathlib import Path

import pytest

from docs import source_tree


def test_an_arrow_that_only_repeats_a_longer_way_is_left_out() -> None:
    imports = {"cli": {"vm", "config", "host"}, "vm": {"config"}, "config": {"host"}, "host": set()}
    assert source_tree._picture(imports).splitlines()[2:-1] == [
        "    cli --> vm",
        "    vm --> config",
    ]


def test_the_page_has_each_package_behind_all_that_it_imports() -> None:
    imports = {"cli": {"vm", "config"}, "vm": {"config"}, "config": set(), "errors": set()}
    assert source_tree._in_order(imports) == ["config", "errors", "vm", "cli"]


def test_packages_that_import_each_other_are_named() -> None:
    with pytest.raises(ValueError, match=r"import each other: \['a', 'b'\]"):
        source_tree._in_order({"a": {"b"}, "b": {"a"}, "c": set()})


def test_a_module_without_a_docstring_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"a\.py has no docstring"):
        source_tree._first_sentence(tmp_path / "a.py")


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = f"before\n{source_tree.BEGIN}\nold\n{source_tree.END}\nafter\n"
    written = source_tree._with_picture(page, "new")
    assert written == f"before\n{source_tree.BEGIN}\n\nnew\n\n{source_tree.END}\nafter\n"
    assert source_tree._with_picture(written, "new") == written
    with pytest.raises(ValueError, match="lacks the marks"):
        source_tree._with_picture("no mark", "new")


def test_only_files_of_the_source_are_listed(tmp_path: Path) -> None:
    for name in (
        "__init__.py",
        "page/a.js",
        "page/b.css",
        "gone/__pycache__/a.pyc",
        "a.py",
        "init",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('"""What it is."""\n')
    assert list(source_tree._rows(tmp_path, "vm")) == [
        "| [vm/a.py](../src/bpfmatrix/vm/a.py) | What it is. |",
        "| other files of vm | [init](../src/bpfmatrix/vm/init) |",
        "| [vm/page](../src/bpfmatrix/vm/page) | a.js, b.css |",
    ]
