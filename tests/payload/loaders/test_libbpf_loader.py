"""loader-libbpf, built for both architectures with the packages that the user's cache has."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE

from bpfmatrix.errors import BuildError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload.loaders import libbpf_loader
from bpfmatrix.results.outcome import Outcome
from tests.tool import REPOSITORY, ToolProject

pytestmark = pytest.mark.integration

HERE = os.uname().machine
SCRIPT = """
cd /payload
echo '{"request": "start", "objects": []}' | ./loader-libbpf 3>/tmp/replies
cat /tmp/replies
grep '"loader": *"libbpf"' /tmp/replies | grep '"version": *"1.8"' | grep '"done": *true'
"""


# Others are built by `nox -s architectures`.
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_it_is_static_and_names_no_path_of_this_machine(tmp_path: Path, arch: str) -> None:
    loader = tmp_path / "loader-libbpf"
    libbpf_loader.build(arch, Cache.default(), loader)
    with loader.open("rb") as file:
        elf = ELFFile(file)
        assert ENUM_E_MACHINE[elf["e_machine"]] == ARCHITECTURES[arch].elf_machine
        assert not any(segment["p_type"] == "PT_INTERP" for segment in elf.iter_segments())
        assert elf.get_section_by_name(".symtab") is None
    content = loader.read_bytes()
    assert len(content) < 2 << 20
    assert str(Cache.default().root).encode() not in content
    assert str(REPOSITORY).encode() not in content


@pytest.mark.parametrize("kernel", ["5.10", "7.3", "6.1-arm64"])
def test_it_runs_in_guests(project: ToolProject, kernel: str) -> None:
    ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["kernels"]
    arch = ours[kernel].get("arch", "x86_64")
    loader = project.root / "loader-libbpf"
    libbpf_loader.build(arch, Cache.default(), loader)
    project.configure([kernel], {"files": {"loader-libbpf": "loader-libbpf"}}, arch=arch)
    project.script("loads", SCRIPT)
    done, run = project.run("loads", kernel=kernel)
    assert run.outcome is Outcome.PASSED, done.output


def test_what_clang_says_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "main.c").write_text("int main(void) { return nothing; }\n")
    monkeypatch.setattr(libbpf_loader, "SOURCES", sources)
    with pytest.raises(BuildError) as caught:
        libbpf_loader.build(HERE, Cache.default(), tmp_path / "loader-libbpf")
    assert "could not build loader-libbpf" in caught.value.what
    assert "undeclared identifier 'nothing'" in caught.value.what
    assert not (tmp_path / "loader-libbpf").exists()


# Builds it in the cache of the first argument, and prints each report.
OBTAIN = """
import sys
from pathlib import Path
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload import shipped

def say(text, fraction=None):
    print(text, flush=True)

config = Config.model_validate({"kernels": {"6.1": {"source": {"oci": "example/6.1"}}}})
project = Project(Path.cwd(), config, Cache(Path(sys.argv[1])))
print(shipped.loader(project, "libbpf", sys.argv[2], say))
"""


@pytest.fixture
def filled(cache: Cache, tmp_path: Path) -> Cache:
    """A cache that has what is fetched, and the compiled libbpf, but no loader."""
    libbpf_loader.build(HERE, Cache.default(), tmp_path / "unused")
    shutil.copytree(Cache.default().root / "loader-sources", cache.root / "loader-sources")
    return cache


def start(cache: Cache) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", OBTAIN, str(cache.root), HERE]
    return subprocess.Popen(words, cwd=cache.root, stdout=subprocess.PIPE, text=True)


def test_a_second_process_waits_for_the_first(filled: Cache) -> None:
    both = [start(filled) for _ in range(2)]
    said = [process.communicate()[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0][-1] == said[1][-1]
    built = [lines for lines in said if "compiling" in lines[0]]
    assert len(built) == 1, said
    (other,) = (lines for lines in said if lines not in built)
    # The other one may have come when it was already there.
    assert len(other) == 1 or other[0].startswith("waiting for another process"), said


def test_ctrl_c_leaves_nothing_half_made(filled: Cache) -> None:
    process = start(filled)
    assert process.stdout is not None
    assert "compiling and linking" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == -signal.SIGINT
    assert not list(filled.root.glob("loaders/*"))
    assert not list((filled.root / "tmp").iterdir())
