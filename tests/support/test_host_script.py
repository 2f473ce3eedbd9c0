"""support/host_script.py, which lists what a script needs beside the standard library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tool import REPOSITORY

SCRIPT = REPOSITORY / "support/host_script.py"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def answer(*words: object, cwd: Path | None = None, **env: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def places(*words: object, cwd: Path | None = None, **env: str) -> set[str]:
    files = answer(*words, cwd=cwd, **env)["files"]
    assert isinstance(files, dict)
    return {place for place in files if not place.startswith("python/lib/")}


def test_modules_packages_and_data_beside_a_script(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.py": "import json, beside\nfrom package.inner import x\nimport nothing_of_it\n"
            "import namespace.deep\nopen('words.txt'); open('data/a/b.csv')\n",
            "beside.py": "import importlib\nimportlib.import_module('further')\n",
            "further.py": "",
            "unused.py": "",
            "words.txt": "",
            "unused.txt": "",
            "data/a/b.csv": "",
            "data/a/c.csv": "",
            "package/__init__.py": "",
            "package/inner.py": "x = 1",
            "package/other.py": "from . import inner",
            "package/template.html": "",
            "package/.hidden": "",
            "package/__pycache__/x.pyc": "",
            "namespace/deep.py": "",
        },
    )
    expected = ["main.py", "beside.py", "further.py", "words.txt", "data/a/b.csv"]
    expected += ["package/__init__.py", "package/inner.py", "package/other.py"]
    expected += ["package/template.html", "namespace/deep.py"]
    assert places(tmp_path / "main.py") == {f"script/{name}" for name in expected}
    assert answer(tmp_path / "main.py")["run"] == "script/main.py"


def test_a_script_that_does_not_compile_stands_alone(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "def (:\n"})
    assert places(tmp_path / "main.py") == {"script/main.py"}


def test_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "import a", "a/__init__.py": "", "b/inner.py": ""})
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    found = places(tmp_path / "main.py")
    assert {"script/main.py", "script/a/__init__.py", "script/a/b/inner.py"} <= found


SITE = {
    "main.py": "import first\n",
    "site/first/__init__.py": "",
    "site/first/data.bin": "",
    "site/first.libs/libx.so.1": "",
    "site/first-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: first\nVersion: 1.0\n"
    "Requires-Dist: Sec_ond>=2; python_version > '3'\nRequires-Dist: absent; extra == 'all'\n",
    "site/first-1.0.dist-info/RECORD": "first/__init__.py,,\nfirst/data.bin,,\n"
    "first.libs/libx.so.1,,\nfirst-1.0.dist-info/METADATA,,\n../../bin/first,,\nfirst.pth,,\n",
    "site/second_module.py": "",
    "site/sec_ond-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: sec-ond\nVersion: 2.0\n",
    "site/sec_ond-2.0.dist-info/RECORD": "second_module.py,,\nsec_ond-2.0.dist-info/METADATA,,\n",
    "site/third/__init__.py": "",
    "site/first.pth": "",
}


def test_an_installed_package_comes_whole_with_what_it_requires(tmp_path: Path) -> None:
    write(tmp_path, SITE)
    found = places(tmp_path / "main.py", PYTHONPATH=str(tmp_path / "site"))
    expected = ["first/__init__.py", "first/data.bin", "first.libs/libx.so.1", "second_module.py"]
    expected += ["first-1.0.dist-info/METADATA", "first-1.0.dist-info/RECORD"]
    expected += ["sec_ond-2.0.dist-info/METADATA", "sec_ond-2.0.dist-info/RECORD"]
    assert found == {"script/main.py", *(f"python/site/{name}" for name in expected)}


def test_a_package_that_nobody_installed_comes_with_what_it_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.py": "import one.inner",
            "site/one/__init__.py": "import two",
            "site/one/inner.py": "",
            "site/two.py": "",
            "site/three.py": "",
        },
    )
    found = places(tmp_path / "main.py", PYTHONPATH=str(tmp_path / "site"))
    names = ["one/__init__.py", "one/inner.py", "two.py"]
    assert found == {"script/main.py", *(f"python/site/{name}" for name in names)}


def test_an_editable_package_comes_from_where_its_sources_are(tmp_path: Path) -> None:
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    write(tmp_path, {"main.py": "import edited", "src/edited/__init__.py": "", "src/other.py": ""})
    (site / "edited.pth").write_text(f"{tmp_path}/src\n")
    info = "edited-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: edited\nVersion: 1.0\n"
    write(site, {f"{info}/METADATA": metadata, f"{info}/RECORD": f"{info}/METADATA,,\n"})
    done = subprocess.run(
        [environment / "bin/python", SCRIPT, tmp_path / "main.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    files = json.loads(done.stdout)["files"]
    assert files["python/site/edited/__init__.py"] == f"{tmp_path}/src/edited/__init__.py"
    assert f"python/site/{info}/METADATA" in files
    assert not any("other" in place for place in files)


@pytest.mark.parametrize("module", ["tool", "package", "package.inner"])
def test_a_module_is_found_in_the_working_directory(tmp_path: Path, module: str) -> None:
    write(
        tmp_path,
        {
            "tool.py": "",
            "package/__init__.py": "",
            "package/__main__.py": "",
            "package/inner.py": "",
        },
    )
    found = answer("--module", module, cwd=tmp_path)
    assert found["run"] == module
    top = module.partition(".")[0]
    assert all(
        place.startswith((f"script/{top}", "python/lib/"))
        for place in dict(found["files"])  # type: ignore[call-overload]
    )


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("missing", "there is no module 'missing'"),
        ("package", "is a package without a module __main__"),
        ("package.missing", "there is no module 'package.missing'"),
        ("tool.inner", "there is no module 'tool.inner'"),
    ],
)
def test_a_module_that_can_not_be_run_is_told(tmp_path: Path, module: str, why: str) -> None:
    write(tmp_path, {"tool.py": "", "package/__init__.py": ""})
    assert why in str(answer("--module", module, cwd=tmp_path)["error"])
