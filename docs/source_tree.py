"""The pages about this project's own source, generated from it: `invoke docs` writes them.

`source-tree.md` names each package and module with the first sentence of its docstring.
`how-it-works.md` has the picture of the packages, drawn from their imports, between two marks.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp

__all__ = ["outputs"]

PACKAGE = "bpfmatrix"
# Nearly every package imports these two: arrows to them would hide all others.
FOUNDATIONS = ("errors", "host")
BEGIN, END = "<!-- picture: invoke docs writes it -->", "<!-- end of the picture -->"

HEADER = """\
# The source tree

<!-- Generated from the docstrings below src/bpfmatrix by `invoke docs`; change them there. -->

Each package, with its modules, in the order in which data flows: a package imports only from those
above it on this page (`lint-imports` fails otherwise). [How it works](how-it-works.md) has the
picture. Tests lie in the folder of the same name below `tests/`.
"""


def outputs(root: Path) -> dict[Path, str]:
    """Return the text of each generated file of the checkout in `root`."""
    imports = _imports_between_packages()
    page = root / "docs/how-it-works.md"
    return {
        root / "docs/source-tree.md": _tree(root / "src" / PACKAGE, imports),
        page: _with_picture(page.read_text(encoding="utf-8"), _picture(imports)),
    }


def _imports_between_packages() -> dict[str, set[str]]:
    """Return which packages each package imports from, by their names below `bpfmatrix`."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        importer = _package(module)
        imported = {_package(one) for one in graph.find_modules_directly_imported_by(module)}
        if importer:
            found.setdefault(importer, set()).update(imported - {importer, ""})
    return found


def _package(module: str) -> str:
    return [*module.split("."), ""][1]


# ---- the picture ---------------------------------------------------------------------------------


def _picture(imports: dict[str, set[str]]) -> str:
    """Return the packages as a Mermaid flowchart; an arrow leads to what a package imports.

    An arrow that only repeats a longer way is left out.
    """
    shown = {name: found - set(FOUNDATIONS) for name, found in imports.items()}
    shown = {name: found for name, found in shown.items() if name not in FOUNDATIONS}
    lines = ["```mermaid", "flowchart TD"]
    for name in sorted(shown):
        longer = set().union(*(_reachable(shown, via) for via in shown[name]))
        lines += [f"    {name} --> {direct}" for direct in sorted(shown[name] - longer)]
    return "\n".join([*lines, "```"])


def _reachable(imports: dict[str, set[str]], name: str) -> set[str]:
    """Return the packages that a package imports, directly or through others."""
    found = set(imports.get(name, ()))
    for direct in tuple(found):
        found |= _reachable(imports, direct)
    return found


def _with_picture(page: str, picture: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"docs/how-it-works.md lacks the marks {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{picture}\n\n{END}{after}"


# ---- the tree ------------------------------------------------------------------------------------


def _tree(package: Path, imports: dict[str, set[str]]) -> str:
    parts = [HEADER]
    for name in _in_order(imports):
        if (package / name).is_dir():
            table = "\n".join(_rows(package / name, name))
            about = _first_sentence(package / name / "__init__.py")
            parts.append(f"## {name}\n\n{about}\n\n| module | |\n| --- | --- |\n{table}\n")
        else:
            about = _first_sentence(package / f"{name}.py")
            parts.append(f"## {name}.py\n\n{about}\n")
    return "\n".join(parts)


def _in_order(imports: dict[str, set[str]]) -> list[str]:
    """Return the packages, each behind all that it imports; by name where that leaves a choice."""
    order: list[str] = []
    while len(order) < len(imports):
        ready = {name for name, found in imports.items() if found <= set(order)} - set(order)
        if not ready:
            raise ValueError(
                f"these packages import each other: {sorted(set(imports) - set(order))}"
            )
        order.append(min(ready))
    return order


def _rows(folder: Path, shown: str) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            about = _first_sentence(path / "__init__.py")
            yield f"| **{shown}/{path.name}** | {about} |"
            yield from _rows(path, f"{shown}/{path.name}")
        elif path.suffix == ".py" and path.name != "__init__.py":
            place = f"../src/{PACKAGE}/{shown}/{path.name}"
            yield f"| [{shown}/{path.name}]({place}) | {_first_sentence(path)} |"
    others = [path for path in sorted(folder.iterdir()) if _is_other(path)]
    if others:
        places = [f"[{path.name}](../src/{PACKAGE}/{shown}/{path.name})" for path in others]
        yield f"| other files of {shown} | {', '.join(places)} |"
    for path in sorted(folder.iterdir()):
        # A folder that git no longer has may still hold Python's __pycache__.
        names = (
            [one.name for one in sorted(path.iterdir()) if _is_other(one)] if path.is_dir() else []
        )
        if names and not (path / "__init__.py").exists():
            place = f"../src/{PACKAGE}/{shown}/{path.name}"
            yield f"| [{shown}/{path.name}]({place}) | {', '.join(names)} |"


def _is_other(path: Path) -> bool:
    """Tell whether a file is none of Python's."""
    return path.is_file() and path.suffix not in (".py", ".pyc", ".typed")


def _first_sentence(path: Path) -> str:
    """Return the first paragraph of a module's docstring; ValueError if there is none."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{path} has no docstring")
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")
