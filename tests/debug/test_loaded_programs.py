"""Places of `--break` that no program of the objects has are told before anything boots."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from bpfmatrix.debug import loaded_programs
from bpfmatrix.debug.loaded_programs import LoadedPrograms
from bpfmatrix.errors import UsageError
from bpfmatrix.verify import line_info
from tests.verify.objectfiles import REJECTED, compiled

HELPER = """
static __attribute__((noinline)) int helper(struct bpf_raw_tracepoint_args *ctx)
{
	return ctx->args[0] ? 3 : 4;
}

SEC("raw_tp/sys_exit")
int on_exit_of_a_call(struct bpf_raw_tracepoint_args *ctx)
{
	return helper(ctx) + 1;
}
"""


@pytest.fixture(scope="module")
def object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(REJECTED + HELPER, tmp_path_factory.mktemp("objects") / "agent.bpf.o")


def known(object: Path, *programs: str) -> LoadedPrograms:
    found = loaded_programs.of_objects([(object, programs)])
    assert found
    return found


def refused(object: Path, place: str, programs: Sequence[str] = ("unchecked", "fine")) -> str:
    with pytest.raises(UsageError) as error:
        loaded_programs.check(["bpf_check", place], known(object, *programs))
    return f"{error.value.what}. {error.value.advice}"


def test_places_that_there_are(object: Path) -> None:
    last = line_info.sizes(object)["unchecked"] - 1
    lines = REJECTED.splitlines()
    line = 1 + lines.index("\t*count += 1;")
    # A line without an instruction means the next one that has some.
    places = ["insn:0", f"insn:{last}", f"insn:unchecked:{last}", "line:agent.bpf.c:1", "rejection"]
    places += [f"line:agent.bpf.c:{line}", f"line:{object.parent.name}/agent.bpf.c:{line}"]
    loaded_programs.check(places, known(object, "unchecked", "fine"))
    # A loader appends the functions that a program calls, and the kernel has 15 bytes of a name.
    own, more = (line_info.sizes(object)[name] for name in ("on_exit_of_a_call", "helper"))
    places = [f"insn:{own + more - 1}", f"insn:on_exit_of_a_ca:{own}"]
    loaded_programs.check(places, known(object, "on_exit_of_a_call"))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("insn:nope:3", "--break insn:nope:3: no program is called nope. These are to be loaded: "),
        (
            "insn:fine:9999",
            "no program has so many instructions. They are counted from 0: fine has ",
        ),
        ("insn:9999", "They are counted from 0: unchecked has "),
        ("line:agent.bpf.c:8000", "The last line of agent.bpf.c with an instruction is "),
        (
            "line:other.bpf.c:1",
            "no program was compiled from other.bpf.c. Those to be loaded were ",
        ),
    ],
)
def test_places_that_there_are_not(object: Path, place: str, told: str) -> None:
    assert told in refused(object, place)


def test_a_program_that_is_not_to_be_loaded(object: Path) -> None:
    assert "These are to be loaded: fine." in refused(object, "insn:unchecked:1", ["fine"])


def test_where_lines_are_not_known_none_is_refused(tmp_path: Path) -> None:
    bare = compiled(REJECTED, tmp_path / "bare.bpf.o", debug=False)
    loaded_programs.check(["line:agent.bpf.c:8000"], known(bare, "fine"))
    assert re.search("no program is called nope", refused(bare, "insn:nope:3", ["fine"]))


def test_an_object_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.o").write_bytes(b"\x7fELF and no more")
    assert loaded_programs.of_objects([(tmp_path / "x.o", ("a",))]) is None
    assert line_info.sizes(tmp_path / "x.o") == {} == line_info.last_lines(tmp_path / "missing")
