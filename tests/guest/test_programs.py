"""The guest's small programs in C: each is built for each architecture, and run on the host."""

import errno
import fcntl
import io
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import Segment

from bpfmatrix.errors import BuildError, ToolMissingError
from bpfmatrix.guest import programs
from bpfmatrix.host import tools
from bpfmatrix.host.architecture import ARCHITECTURES, X86_64
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.integrity import record_of
from tests.damage import DAMAGES, Notes

MACHINES = {
    "x86_64": "EM_X86_64",
    "aarch64": "EM_AARCH64",
    "riscv64": "EM_RISCV",
    "s390x": "EM_S390",
    "ppc64le": "EM_PPC64",
}
PROGRAMS = ["capture-output", "clean-up", "refresh-guest", "start-test", "unlock-terminal"]
HERE = os.uname().machine
ELSEWHERE = next(arch for arch in MACHINES if arch != HERE)
NOBODY = 65534
# Of the kernel's include/uapi/linux/random.h, and of asm-generic/ioctls.h.
RNDRESEEDCRNG, TIOCGPTN = 0x5207, 0x80045430


@pytest.fixture(autouse=True)
def _tools_are_looked_for_anew() -> Iterator[None]:
    tools.find.cache_clear()
    yield
    tools.find.cache_clear()


def test_each_source_is_a_program() -> None:
    assert [source.stem for source in programs.sources()] == PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("arch", MACHINES)
def test_a_program_is_static_and_small(cache: Cache, arch: str, name: str) -> None:
    content = programs.executables(arch, cache)[name]
    sizes = {"clean-up": 32768, "start-test": 16384, "capture-output": 4096}
    assert len(content) < sizes.get(name, 1536)
    elf = ELFFile(io.BytesIO(content))
    assert (elf["e_type"], elf["e_machine"]) == ("ET_EXEC", MACHINES[arch])
    segments = list(elf.iter_segments())
    assert {segment["p_type"] for segment in segments}.isdisjoint({"PT_INTERP", "PT_DYNAMIC"})
    assert any(_holds(segment, elf["e_entry"]) for segment in segments)
    # No segment can be both written and executed, and neither can the stack.
    assert all(segment["p_flags"] & 3 != 3 for segment in segments)
    undefined = [
        symbol.name
        for section in elf.iter_sections()
        if isinstance(section, SymbolTableSection)
        for symbol in section.iter_symbols()
        if symbol.name and symbol["st_shndx"] == "SHN_UNDEF"
    ]
    assert undefined == []
    assert not any(section["sh_type"] in {"SHT_REL", "SHT_RELA"} for section in elf.iter_sections())


def _holds(segment: Segment, address: int) -> bool:
    """Tell whether a segment has the code at an address."""
    executable = segment["p_type"] == "PT_LOAD" and segment["p_flags"] & 1
    start = segment["p_vaddr"]
    return bool(executable and start <= address < start + segment["p_filesz"])


def program(name: str, cache: Cache, folder: Path) -> Path:
    """Return a program for the host, as a file that every user can run."""
    path = folder / name
    path.write_bytes(programs.executables(HERE, cache)[name])
    path.chmod(0o755)
    return path


def test_a_terminal_opens_once_it_is_unlocked(cache: Cache, tmp_path: Path) -> None:
    unlock = program("unlock-terminal", cache, tmp_path)
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    try:
        number = int.from_bytes(fcntl.ioctl(master, TIOCGPTN, bytes(4)), "little")
        terminal = f"/dev/pts/{number}"
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.open(terminal, os.O_RDWR | os.O_NOCTTY)
        assert subprocess.run([unlock], stdin=master, check=False).returncode == 0
        other_side = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
        assert os.isatty(other_side)
        os.close(other_side)
    finally:
        os.close(master)


def test_what_is_no_terminal_can_not_be_unlocked(cache: Cache, tmp_path: Path) -> None:
    unlock = program("unlock-terminal", cache, tmp_path)
    done = subprocess.run([unlock], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == errno.ENOTTY


def test_the_random_number_generator_is_asked_to_reseed(cache: Cache, tmp_path: Path) -> None:
    reseed = program("refresh-guest", cache, tmp_path)
    done = subprocess.run([reseed], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == _reseeding_here()


def test_reseeding_takes_a_right(cache: Cache, tmp_path: Path) -> None:
    # A kernel refuses so what it knows, of that device; anything else would be ENOTTY or EINVAL.
    reseed = program("refresh-guest", cache, tmp_path)
    descriptor = os.open(reseed, os.O_RDONLY)  # nobody may have no way into pytest's folders
    user = NOBODY if os.geteuid() == 0 else None
    done = subprocess.run(
        [f"/proc/self/fd/{descriptor}"], pass_fds=[descriptor], user=user, check=False
    )
    os.close(descriptor)
    assert done.returncode == errno.EPERM


def _reseeding_here() -> int:
    """Return the error number of the same request from Python, or 0."""
    with Path("/dev/urandom").open("rb") as device:
        try:
            fcntl.ioctl(device, RNDRESEEDCRNG)
        except OSError as error:
            return error.errno or -1
    return 0


def test_a_program_that_is_there_takes_no_process(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = programs.executables(HERE, cache)
    files = {path: path.stat().st_ino for path in (cache.root / "guest-programs").iterdir()}
    monkeypatch.setattr(subprocess, "run", None)
    assert programs.executables(HERE, cache) == built
    programs.digest(HERE)
    assert {path: path.stat().st_ino for path in files} == files


@pytest.mark.parametrize("harm", DAMAGES)
@pytest.mark.parametrize("what", ["program", "record"])
def test_a_damaged_program_is_built_again(
    cache: Cache, harm: Callable[[Path], None], what: str
) -> None:
    built, notes = programs.executables(HERE, cache), Notes()
    [path] = (cache.root / "guest-programs").glob(f"*-unlock-terminal-{HERE}")
    harm(path if what == "program" else record_of(path))
    missing = not path.exists()
    assert programs.executables(HERE, cache, notes) == built
    assert len(notes.told) == (0 if missing else 1)
    assert all(told.startswith("the guest's program unlock-terminal ") for told in notes.told)


@pytest.fixture
def own_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, for a test to change."""
    folder = tmp_path / "c"
    folder.mkdir()
    [ours] = {source.parent for source in programs.sources()}
    for path in ours.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(programs, "_SOURCES", folder)
    return folder


@pytest.mark.parametrize("name", ["guest.h", "unlock-terminal.c"])
def test_a_changed_source_is_built_again(own_sources: Path, cache: Cache, name: str) -> None:
    before, known = programs.executables(HERE, cache), programs.digest(HERE)
    path = own_sources / name
    path.write_text(
        path.read_text().replace("TIOCSPTLCK,", "0,").replace("(stack + 1)), 0", "(stack + 1)), 7")
    )
    assert programs.executables(HERE, cache)["unlock-terminal"] != before["unlock-terminal"]
    assert programs.digest(HERE) != known


def test_what_clang_says_of_a_broken_source_is_shown(own_sources: Path, cache: Cache) -> None:
    (own_sources / "broken.c").write_text(
        '#include "guest.h"\nint main(void) { return nothing; }\n'
    )
    with pytest.raises(BuildError) as caught:
        programs.executables(HERE, cache)
    assert f"could not build the guest's program broken.c for {HERE}:" in caught.value.what
    assert "undeclared identifier 'nothing'" in caught.value.what
    assert not list((cache.root / "tmp").iterdir())


def test_an_architecture_without_system_calls_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "loongarch64"
    other = replace(X86_64, name=name, compiler_prefix=f"{name}-linux-gnu-")
    monkeypatch.setitem(ARCHITECTURES, name, other)
    with pytest.raises(BuildError, match=r"guest\.h has no system calls of this architecture"):
        programs.compile_program(programs.sources()[0], name, tmp_path / "program")


def test_a_missing_clang_is_said(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissingError) as caught:
        programs.executables(HERE, cache)
    assert caught.value.what == "clang is not installed"
    assert caught.value.advice == "Install clang-19 (on Debian), or run ./bootstrap."


def test_a_missing_linker_for_another_architecture_is_said(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # clang looks for its linker beside its own file, and in PATH.
    folder = tmp_path / "bin"
    folder.mkdir()
    clang = tools.require("clang-19", "clang-19")
    (folder / "clang-19").write_bytes(clang.read_bytes())
    (folder / "clang-19").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    tools.find.cache_clear()
    with pytest.raises(ToolMissingError) as caught:
        programs.executables(ELSEWHERE, cache)
    assert (
        caught.value.what
        == f"lld is not installed, with which clang-19 links programs for {ELSEWHERE}"
    )
    assert caught.value.advice == "Install lld-19 (on Debian), or let ./bootstrap do so."
