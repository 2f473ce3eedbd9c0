"""The modules of the HTML report's script, and how html.py joins them.

These checks need all modules at once, so Biome can't make them: unused exports, modules that
nothing imports, and names that clash in the joined script.
"""

import re
from collections import Counter
from importlib import resources

from bpfmatrix.report import html
from bpfmatrix.report.matrix import Matrix

PAGE = resources.files("bpfmatrix.report") / "page"
MODULES = {
    file.name: file.read_text(encoding="utf-8")
    for file in PAGE.iterdir()
    if file.name.endswith(".js")
}
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+\.js)";$', re.MULTILINE)
DECLARATION = re.compile(r"^(export )?(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)


def joined() -> str:
    page = html.render(Matrix.of([]))
    begin = page.index('<script type="module">') + len('<script type="module">')
    return page[begin : page.index("</script>", begin)]


def test_all_modules_are_in_the_script_after_what_they_import() -> None:
    script = joined()
    begins = {name: script.find(text.splitlines()[0]) for name, text in MODULES.items()}
    assert -1 not in begins.values()
    imports = [(name, of) for name, text in MODULES.items() for _, of in IMPORT.findall(text)]
    assert len(imports) >= len(MODULES) - 1
    for name, imported in imports:
        assert begins[imported] < begins[name], f"{name} imports {imported}"


def test_no_import_or_export_is_left_in_the_script() -> None:
    assert re.findall(r"^(?:import|export)\b.*", joined(), re.MULTILINE) == []


def test_each_export_is_imported() -> None:
    exported = {
        (module, name)
        for module, text in MODULES.items()
        for export, name in DECLARATION.findall(text)
        if export
    }
    imported = {
        (module, name.strip())
        for text in MODULES.values()
        for names, module in IMPORT.findall(text)
        for name in names.split(",")
        if name.strip()
    }
    assert exported
    assert exported == imported


def test_no_two_modules_declare_the_same_name() -> None:
    names = Counter(name for text in MODULES.values() for _, name in DECLARATION.findall(text))
    assert [name for name, count in names.items() if count > 1] == []
