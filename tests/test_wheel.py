"""The wheel, as `pip wheel .` makes it, and what an installation without Go takes from it."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE

from bpfmatrix.host.architecture import ARCHITECTURES
from tests.tool import REPOSITORY

# Those of all architectures would take minutes more.
BUILT = ("x86_64", "aarch64")
FIND_LOADER = """
import sys
from pathlib import Path
from bpfmatrix.payload import shipped
from bpfmatrix.host.cache import Cache
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
config = Config.model_validate({"kernels": {"6.1": {"source": {"oci": "example/6.1"}}}})
project = Project(Path.cwd(), config, Cache(Path("cache")))
print(shipped.supervisor(project, sys.argv[1]))
for name in sys.argv[2:]:
    print(shipped.loader(project, name, sys.argv[1]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    # Without cargo, as on most machines; `nox -s aya` builds what cargo is for.
    path = os.environ["PATH"].split(os.pathsep)
    without = [each for each in path if not Path(each, "cargo").exists()]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--disable-pip-version-check", "-w", folder, REPOSITORY),
        ],
        check=True,
        env={
            **os.environ,
            "PATH": os.pathsep.join(without),
            "BPFMATRIX_WHEEL_ARCHITECTURES": ",".join(BUILT),
        },
    )
    [wheel] = folder.glob("bpfmatrix-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.mark.parametrize(
    "name",
    ["bpfload", "loader-libbpf", "python-tracer", "clean-up", "refresh-guest", "unlock-terminal"],
)
@pytest.mark.parametrize("arch", BUILT)
def test_the_wheel_has_static_programs(installed: Path, arch: str, name: str) -> None:
    with (installed / f"bpfmatrix/loader/{name}-{arch}").open("rb") as file:
        elf = ELFFile(file)
        assert ENUM_E_MACHINE[elf["e_machine"]] == ARCHITECTURES[arch].elf_machine
        assert not any(segment["p_type"] == "PT_INTERP" for segment in elf.iter_segments())


def test_the_wheel_has_debians_keys(installed: Path) -> None:
    keyring = installed / "bpfmatrix/kernels/sources/keyrings/debian-archive-keyring.gpg"
    assert keyring.stat().st_size > 50_000


def test_an_installation_without_go_uses_it(installed: Path, tmp_path: Path) -> None:
    arch = os.uname().machine
    env = {"PATH": "/nowhere", "PYTHONPATH": str(installed), "HOME": str(tmp_path)}
    words = [sys.executable, "-c", FIND_LOADER, arch, "libbpf"]
    found = [
        subprocess.run(
            words, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert found[0] == found[1]
    supervisor, loader = (tmp_path / path for path in found[0])
    assert (supervisor.name, loader.name) == ("bpfload", "loader-libbpf")
    done = subprocess.run([supervisor], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bpfload: name at least one object\n"
    shell = f'echo \'{{"request": "start", "objects": []}}\' | {loader} 3>&1'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    reply = json.loads(done.stdout)
    assert (reply["loader"], reply["done"]) == ("libbpf", True)


def guest_programs(installed: Path, folder: Path, path: str) -> "subprocess.CompletedProcess[str]":
    """Ask an installation for the guest's programs in C, with that as its PATH."""
    return subprocess.run(
        [sys.executable, "-c", GUEST_PROGRAMS],
        cwd=folder,
        env={"PATH": path, "PYTHONPATH": str(installed), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


GUEST_PROGRAMS = """
import hashlib
from pathlib import Path
from bpfmatrix.guest import programs
from bpfmatrix.host.cache import Cache
for arch in ("aarch64", "x86_64"):
    for name, content in programs.executables(arch, Cache(Path("cache"))).items():
        print(hashlib.sha256(content).hexdigest(), f"{name}-{arch}")
"""


def test_an_installation_without_clang_has_the_programs_in_c(
    installed: Path, tmp_path: Path
) -> None:
    done = guest_programs(installed, tmp_path, "/nowhere")
    assert done.stderr == ""
    shipped = [line.split() for line in done.stdout.splitlines()]
    names = ("capture-output", "clean-up", "refresh-guest", "start-test", "unlock-terminal")
    assert [name for _, name in shipped] == [
        *(f"{name}-aarch64" for name in names),
        *(f"{name}-x86_64" for name in names),
    ]
    for checksum, name in shipped:
        content = (installed / "bpfmatrix/loader" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == checksum


def test_a_wheel_that_was_made_without_clang_builds_them(installed: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run(["cp", "-r", installed, bare], check=True)
    for shipped in (bare / "bpfmatrix/loader").iterdir():
        shipped.unlink()
    built = guest_programs(bare, tmp_path, os.environ["PATH"])
    assert built.stdout == guest_programs(installed, tmp_path, "/nowhere").stdout
    done = guest_programs(bare, tmp_path, "/nowhere")
    assert "ToolMissingError: clang is not installed" in done.stderr


@pytest.mark.parametrize("name", ["bpfload", "loader-libbpf"])
def test_an_installation_without_it_says_so(installed: Path, tmp_path: Path, name: str) -> None:
    bare = tmp_path / "bare"
    subprocess.run(["cp", "-r", installed, bare], check=True)
    for program in (bare / "bpfmatrix/loader").glob(f"{name}-*"):
        program.unlink()
    done = subprocess.run(
        [sys.executable, "-c", FIND_LOADER, "x86_64", "libbpf"],
        cwd=tmp_path,
        env={"PATH": "/nowhere", "PYTHONPATH": str(bare), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"BuildError: this installation of bpfmatrix has no {name} for x86_64"
    assert said in done.stderr


def test_the_wheel_has_all_of_the_html_report(installed: Path) -> None:
    page = REPOSITORY / "src/bpfmatrix/report/page"
    files = {file.name: file.read_bytes() for file in page.iterdir()}
    assert {"main.js", "report.css", "report.html.j2"} <= files.keys()
    inside = installed / "bpfmatrix/report/page"
    assert {file.name: file.read_bytes() for file in inside.iterdir()} == files


def test_the_wheel_has_what_traces_python(installed: Path, tmp_path: Path) -> None:
    words = """
from bpfmatrix.payload import shipped
from bpfmatrix.config.models import Config
from bpfmatrix.host.cache import Cache
from bpfmatrix.config.project import Project
from pathlib import Path
config = Config.model_validate({"kernels": {"6.1": {"source": {"oci": "example/6.1"}}}})
project = Project(Path.cwd(), config, Cache(Path("cache")))
print(shipped.tracer_object(project))
print(shipped.python_lister())
"""
    env = {"PATH": "/nowhere", "PYTHONPATH": str(installed), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=tmp_path, env=env, capture_output=True, check=True
    )
    for path in map(Path, done.stdout.decode().splitlines()):
        assert path.is_relative_to(installed)
        assert path.read_bytes() == (REPOSITORY / WHERE[path.name] / path.name).read_bytes()


WHERE = {"python_tracer.bpf.o": "ebpf", "host_python.py": "support"}
