"""The sdist and the wheel, as a release has them, and what an installation without Go has."""

import email
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE

from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import sha256
from release import notices, sbom
from tests.distributions import add_dependencies, build_sdist, build_wheel, files_of
from tests.installation import Installed
from tests.tool import REPOSITORY, ToolProject

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
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this checkout."""
    return build_sdist(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist, without what only cargo builds (`nox -s aya`)."""
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(sdist, folder, BUILT, ("libbpf", "cilium-ebpf"))


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with what the wheel holds."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "installed")
    return wheel.parent / "installed"


def test_the_sdist_leaves_out_what_examples_and_tests_build(tmp_path: Path) -> None:
    ignored = {
        "docs/examples/aya": (".bpfmatrix/a", "target/a", "a.o", "bpf/execs_test"),
        "docs/examples/container": (".bpfmatrix/a",),
        "docs/examples/go": (".bpfmatrix/a", "a_bpfel.go", "a_bpfel.o"),
        "docs/examples/libbpf": (".bpfmatrix/a", "a.o", "a.skel.h", "src/execs_test"),
        "docs/examples/objects": (".bpfmatrix/a", "build/a"),
        "ebpf": ("a.o", "a.d"),
        "support": ("a.test", "loaders/aya/target/a"),
        "tests/integration/projects/gtest_suite": ("build/a", ".bpfmatrix/a"),
    }
    names = {f"{folder}/{name}" for folder, each in ignored.items() for name in each}
    kept = {"README.md", "docs/examples/go/kernels.yaml", "ebpf/Makefile"}
    (tmp_path / "bytecode-lines/tests/fixtures").mkdir(parents=True)
    for name in ("pyproject.toml", "LICENSE", *sorted(names | kept)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        known = REPOSITORY / name
        (tmp_path / name).write_bytes(known.read_bytes() if known.exists() else b"")
    found = files_of(build_sdist(tmp_path / "dist", tmp_path))
    assert found & names == set()
    assert found >= kept


def test_the_sdist_has_all_files_of_the_checkout_and_no_others(sdist: Path) -> None:
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    known = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    checkout = {name for name in known.stdout.splitlines() if (REPOSITORY / name).exists()}
    assert files_of(sdist) == checkout | {"PKG-INFO"}


def test_the_wheel_has_all_files_of_the_packages(installed: Path) -> None:
    for folder, name, inside in (
        ("src", "bpfmatrix", installed),
        ("bytecode-lines/src", "bytecode_lines", installed / "bpfmatrix/vendored"),
    ):
        command = ("git", "-C", folder, "ls-files", name)
        known = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        files = [
            file for file in known.stdout.splitlines() if (REPOSITORY / folder / file).exists()
        ]
        assert len(files) > 5
        assert [file for file in files if not (inside / file).exists()] == []
    # Those that a checkout has elsewhere.
    assert (installed / "bpfmatrix/kernels.schema.json").exists()
    fragments = {path.name for path in (REPOSITORY / "ci-kernels").glob("*.config")}
    assert {path.name for path in (installed / "bpfmatrix/ci-kernels").iterdir()} == fragments


def test_an_installed_bytecode_lines_stays_as_it_is(installed: Path, tmp_path: Path) -> None:
    # Nothing of bpfmatrix's wheel is where the wheel of bytecode-lines has its files.
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"bpfmatrix"}
    (tmp_path / "bytecode_lines").mkdir()
    (tmp_path / "bytecode_lines/__init__.py").write_text("raise ImportError('of another version')")
    pyc = REPOSITORY / "bytecode-lines/tests/fixtures/traps.3.8.pyc"
    words = ("bytecode-lines", "--", "lines", pyc, "--function", "loop")
    done = subprocess.run(
        [sys.executable, "-m", "bpfmatrix", *words],
        cwd=tmp_path,
        env={"PATH": "/nowhere", "PYTHONPATH": f"{installed}:{tmp_path}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("loop  Python 3.8  ")


def test_a_wheel_from_the_checkout_is_the_same(wheel: Path, tmp_path: Path) -> None:
    # For fewer guests, to take less time.
    other = build_wheel(REPOSITORY, tmp_path, ("x86_64",), ("cilium-ebpf",))
    from_sdist, from_checkout = map(contents, (wheel, other))
    assert from_checkout.keys() < from_sdist.keys()
    assert {name for name in from_sdist if not name.startswith("bpfmatrix/loader/")} == {
        name for name in from_checkout if not name.startswith("bpfmatrix/loader/")
    }
    # These two depend on what is left out.
    for name in ("left-out", "THIRD-PARTY-NOTICES.txt"):
        del from_checkout[f"bpfmatrix/loader/{name}"]
    assert {name: from_sdist[name] for name in from_checkout} == from_checkout


def contents(wheel: Path) -> dict[str, str]:
    """Return the checksums of a wheel's files; but for RECORD, which has them all."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: sha256(archive.read(name))
            for name in archive.namelist()
            if not name.endswith("/RECORD")
        }


def test_the_wheel_passes_the_checks_of_pypi(sdist: Path, wheel: Path) -> None:
    for command in (("twine", "check", "--strict", sdist, wheel), ("check-wheel-contents", wheel)):
        done = subprocess.run(
            [sys.executable, "-m", command[0].replace("-", "_"), *command[1:]],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_sbom_names_what_is_linked_into_the_programs(wheel: Path) -> None:
    bom = json.loads(sbom.to_json(sbom.of_wheel(wheel)))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["component"]["hashes"][0]["content"] == sha256(wheel.read_bytes())
    packages = {each["purl"].partition("@")[0] for each in bom["components"]}
    assert {
        "pkg:golang/github.com/cilium/ebpf",
        "pkg:golang/stdlib",
        "pkg:generic/libbpf",
        "pkg:generic/glibc",
        "pkg:generic/elfutils",
        "pkg:pypi/bytecode-lines",
        "pkg:pypi/pydantic",
    } <= packages
    # This wheel has no loader-aya.
    assert not any(each.startswith("pkg:cargo/") for each in packages)


def test_the_wheel_has_the_notices_of_what_is_linked_into_the_programs(
    wheel: Path, installed: Path
) -> None:
    assert sbom.without_notice(wheel, sbom.of_wheel(wheel)) == []
    text = (installed / "bpfmatrix/loader" / notices.NAME).read_text()
    for name, words in {
        "github.com/cilium/ebpf": "MIT License",
        "golang.org/x/sys": "Redistribution and use in source and binary forms",
        "stdlib": "Copyright 2009 The Go Authors",
        "glibc": "GNU Lesser General Public",
        "libbpf": "Copyright (C) 2015 Wang Nan",
        "/usr/share/common-licenses/LGPL-2.1": "GNU LESSER GENERAL PUBLIC LICENSE",
    }.items():
        section = text.partition(f"\n{name} ")[2].partition("=" * 80 + "\n\n")[2]
        assert words in section.partition("\n" + "=" * 80)[0], name


def test_the_description_has_absolute_links_only(installed: Path) -> None:
    [metadata] = installed.glob("*.dist-info/METADATA")
    text = email.message_from_bytes(metadata.read_bytes()).get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    assert len(links) > 10
    assert [link for pair in links for link in pair if link and "://" not in link] == []


def failed_build(folder: Path, **env: str) -> str:
    """Return what a build of a wheel, which has to fail, says; its PATH has no programs."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", folder / "made"],
        cwd=REPOSITORY,
        # The tools of the virtual environment are found all the same.
        env={"PATH": "/nowhere", "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert list((folder / "made").iterdir()) == []
    assert "Traceback" not in done.stderr
    return done.stderr[done.stderr.index("error: ") :]


@pytest.mark.parametrize("key", ["ARCHITECTURES", "LOADERS"])
def test_an_unknown_word_of_a_setting_is_named(tmp_path: Path, key: str) -> None:
    said = failed_build(tmp_path, **{f"BPFMATRIX_WHEEL_{key}": "libbfp"})
    assert said.startswith(f"error: BPFMATRIX_WHEEL_{key}: 'libbfp' is none of ")


def test_a_build_names_all_tools_that_it_lacks(tmp_path: Path) -> None:
    lines = failed_build(tmp_path, BPFMATRIX_WHEEL_ARCHITECTURES="x86_64").splitlines()
    assert lines[0] == "error: a wheel of bpfmatrix can't be built here:"
    for tool in ("clang", "cargo", "make"):
        assert any(line.startswith(f"- {tool} is not installed. Install ") for line in lines)
    assert "BPFMATRIX_WHEEL_LOADERS" in lines[-1]


def test_a_wheel_that_lacks_a_program_says_why(installed: Path, tmp_path: Path) -> None:
    done = find_loaders(installed, tmp_path, "x86_64", "aya")
    assert (
        "BuildError: this installation of bpfmatrix has no loader-aya for x86_64: its wheel was "
        f"built with BPFMATRIX_WHEEL_ARCHITECTURES={','.join(BUILT)} "
        "BPFMATRIX_WHEEL_LOADERS=libbpf,cilium-ebpf"
    ) in done.stderr
    done = find_loaders(installed, tmp_path, "aarch64", "libbpf")
    assert done.stderr == ""


def find_loaders(installed: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Ask an installation for its supervisor and loaders: an architecture, then their names."""
    return subprocess.run(
        [sys.executable, "-c", FIND_LOADER, *words],
        cwd=folder,
        env={"PATH": "/nowhere", "PYTHONPATH": str(installed), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


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
    found = [
        find_loaders(installed, tmp_path, arch, "libbpf").stdout.splitlines() for _ in range(2)
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
    done = find_loaders(bare, tmp_path, "x86_64", "libbpf")
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
for name in "host_python.py", "host_script.py":
    print(shipped.python_lister(name))
"""
    env = {"PATH": "/nowhere", "PYTHONPATH": str(installed), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=tmp_path, env=env, capture_output=True, check=True
    )
    for path in map(Path, done.stdout.decode().splitlines()):
        assert path.is_relative_to(installed)
        assert path.read_bytes() == (REPOSITORY / WHERE[path.name] / path.name).read_bytes()


WHERE = {
    "python_tracer.bpf.o": "ebpf",
    "host_python.py": "support",
    "host_script.py": "support",
}


@pytest.mark.integration
def test_an_installation_by_uv_tests_a_kernel_offline(
    wheel: Path, installed: Path, project: ToolProject, tmp_path: Path
) -> None:
    # So that the kernel is in the cache.
    done, _ = project.run(project.script("passes", "exit 0"))
    assert done.status == 0, done.output
    house = tmp_path / "wheels"
    add_dependencies(wheel, house)
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "tool", "install", "--quiet", "--offline"),
            *("--no-index", "--find-links", house, "--python", sys.executable, "bpfmatrix"),
        ],
        check=True,
        env=os.environ
        | {f"UV_{name}_DIR": str(tmp_path / name) for name in ("TOOL", "TOOL_BIN", "CACHE")},
    )
    user = Installed.with_programs(tmp_path / "TOOL_BIN", tmp_path / "user")
    [metadata] = installed.glob("*.dist-info/METADATA")
    version = email.message_from_bytes(metadata.read_bytes())["Version"]
    assert user.run("bpfmatrix", "--version") == f"bpfmatrix {version}\n"
    user.declare()
    said = user.run("bpfmatrix", "doctor")
    assert "not installed, needed only for building tests in Go" in said
    assert "not all: this wheel was built with BPFMATRIX_WHEEL_ARCHITECTURES=" in said
    assert "has-btf" in user.run("bpfmatrix", "run", "--kernel", "6.1")
    tracer = installed / "bpfmatrix/loader/python_tracer.bpf.o"
    (user.project / tracer.name).write_bytes(tracer.read_bytes())
    assert "✓" in user.run("bpfmatrix", "verify", tracer.name, "--kernel", "6.1")
