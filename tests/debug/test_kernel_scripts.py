"""The kernel's own scripts for gdb: loaded in silence, repaired, and named where they miss."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.debug.in_gdb import kernel_scripts
from tests.tool import REPOSITORY

# From a build of 5.4.286.
CONSTANTS = "LX_SB_RDONLY = ((((1UL))) << (0))\nLX_MNT_NOSUID = 0x01\nLX_MODE = 0644\n"
COMMAND = """
class {type}:
    def __init__(self):
        super({type}, self).__init__("{name}", "gdb.COMMAND_DATA")
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Path]:
    """A kernel's `vmlinux-gdb.py` with two modules; they do not need gdb."""
    folder = tmp_path / "scripts/gdb/linux"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "constants.py").write_text(CONSTANTS)
    (folder / "proc.py").write_text(
        "from linux import constants\n" + COMMAND.format(type="LxMounts", name="lx-mounts")
    )
    (folder / "cpus.py").write_text(
        "if 1 is 1: pass\npattern = '\\d'\n"  # Python warns about both
        + COMMAND.format(type="PerCpu", name="lx_per_cpu")
    )
    path = tmp_path / "vmlinux-gdb.py"
    path.write_text(
        "import os\n"
        "raise SystemExit('this is not run')\n"
        "if os:\n    import linux.proc\n    import linux.cpus\n"
    )
    yield path
    for name in [each for each in sys.modules if each.partition(".")[0] == "linux"]:
        del sys.modules[name]
    sys.meta_path[:] = [
        each for each in sys.meta_path if not isinstance(each, kernel_scripts._Finder)
    ]


def test_all_are_loaded_without_a_word(
    scripts: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    kernel_scripts.load(scripts)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    constants = sys.modules["linux.constants"]
    assert (constants.LX_SB_RDONLY, constants.LX_MODE) == (1, 0o644)
    assert sys.modules["linux.cpus"].PerCpu
    # The folder of a build is not written to.
    assert list(scripts.parent.rglob("__pycache__")) == []


def test_what_is_missing_is_said_in_one_line(
    scripts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = scripts.parent / "scripts/gdb/linux"
    (folder / "constants.py").write_text("LX_SB_RDONLY = (unsigned long)1\n")
    (folder / "cpus.py").write_text(
        "import a_module_of_python_2\n" + COMMAND.format(type="PerCpu", name="lx_per_cpu")
    )
    kernel_scripts.load(scripts)
    out, err = capfd.readouterr()
    assert out.startswith("without the kernel's own lx-mounts, $lx_per_cpu: invalid syntax")
    assert "constants.py, line 1" in out
    assert (out.count("\n"), err) == (1, "")


def test_scripts_that_are_gone(scripts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scripts.unlink()
    kernel_scripts.load(scripts)
    out, _ = capfd.readouterr()
    assert out.startswith("without the kernel's own commands: [Errno 2] No such file or directory")


@pytest.mark.parametrize(
    ("c", "python"),
    [
        ("((((1UL))) << (6))", "((((1))) << (6))"),
        ("0x7FFFull + 12u", "0x7FFF + 12"),
        ("00100 + 0 + 100", "0o0100 + 0 + 100"),
        ("0xd00dfeed", "0xd00dfeed"),
        ("x1U = 1.0", "x1U = 1.0"),
    ],
)
def test_integers_of_c_become_those_of_python(c: str, python: str) -> None:
    assert kernel_scripts.repaired(c) == python


def test_gdb_has_the_commands_of_those_that_can_be_loaded(scripts: Path) -> None:
    folder = scripts.parent / "scripts/gdb/linux"
    text = (folder / "proc.py").read_text()
    text = text.replace("class LxMounts:", "import gdb\nclass LxMounts(gdb.Command):")
    (folder / "proc.py").write_text(text.replace('"gdb.COMMAND_DATA"', "0") + "LxMounts()\n")
    (folder / "cpus.py").write_text(
        "import gdb\ngdb.parse_and_eval('no_such_variable')\n"
        + COMMAND.format(type="PerCpu", name="lx_per_cpu")
    )
    load = REPOSITORY / "src/bpfmatrix/debug/in_gdb/load.py"
    lines = [f"source {load}", f"python kernel_scripts.load({str(scripts)!r})", "help lx-mounts"]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *(word for line in lines for word in ("-ex", line))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    missing, shown = done.stdout.splitlines()
    assert missing == (
        'without the kernel\'s own $lx_per_cpu: No symbol table is loaded.  Use the "file" command.'
    )
    assert shown == "This command is not documented."
