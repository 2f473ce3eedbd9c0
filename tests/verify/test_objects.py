import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.config.models import VerifyObjects
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.results.verification import Code
from bpfmatrix.verify.objects import ObjectError, big_endian_twin, contents_of, find, inspect
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.plan import LoadPlan
from bpfmatrix.verify.selection import Names, parse_filter
from tests.verify.objectfiles import REJECTED, clang, compiled


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(REJECTED, tmp_path_factory.mktemp("objects") / "größe 1.bpf.o")


def test_an_object_tells_its_programs_and_variables(rejected: Path) -> None:
    found = inspect(rejected, "a.o")
    assert found.programs == ("unchecked", "fine")
    assert {"counts", "LICENSE"} <= found.symbols
    assert not found.requires


def test_what_an_object_requires_is_read(tmp_path: Path) -> None:
    text = f'#include "requires.h"\n{REJECTED}\nREQUIRES_KERNEL("5.17", "bpf_loop");\n'
    assert inspect(compiled(text, tmp_path / "a.o"), "a.o").requires == "5.17 bpf_loop"


def refused(path: Path) -> str:
    with pytest.raises(ObjectError) as caught:
        inspect(path, "the file")
    assert caught.value.exit_status == 2
    assert caught.value.what == f"the file: {caught.value.reason}"
    assert "\n" not in caught.value.what
    return caught.value.reason


def test_files_that_are_no_objects_are_refused(tmp_path: Path, rejected: Path) -> None:
    (tmp_path / "text").write_text("int x;")
    assert refused(tmp_path / "text").startswith("no ELF file")
    (tmp_path / "empty").touch()
    assert refused(tmp_path / "empty") == "empty"
    assert "can't be read: Is a directory" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.o")
    assert refused(tmp_path / "pipe.o") == "no regular file"
    assert "can't be read: No such file" in refused(tmp_path / "none")
    assert "it is built for x86_64" in refused(Path("/bin/true").resolve())
    whole = rejected.read_bytes()
    (tmp_path / "short").write_bytes(whole[:40])
    assert refused(tmp_path / "short").startswith("a damaged ELF file")
    for size in (64, len(whole) // 2, len(whole) - 1):
        (tmp_path / "short").write_bytes(whole[:size])
        assert refused(tmp_path / "short").startswith(f"cut off: it has {size:,}")
    (tmp_path / "lib.a").write_bytes(b"!<arch>\n")
    assert "an archive" in refused(tmp_path / "lib.a")


def test_llvm_bitcode_is_told_as_that(tmp_path: Path) -> None:
    code, target = tmp_path / "a.c", tmp_path / "a.o"
    code.write_text("int x;\n")
    options = ("-target", "bpf", "-O2", "-emit-llvm", "-c", str(code), "-o", str(target))
    subprocess.run([str(clang()), *options], check=True)
    assert refused(target) == "LLVM bitcode, no object file"


def test_an_object_of_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    big = compiled(REJECTED, tmp_path / "big.o", machine="bpfeb")
    assert "big-endian" in refused(big)


def test_the_object_for_big_endian_machines_is_found(tmp_path: Path) -> None:
    for name in ("a.o", "bpfeb/a.o", "b_bpfel.o", "b_bpfeb.o", "c.o"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        compiled(REJECTED, tmp_path / name, machine="bpfeb" if "bpfeb" in name else "bpfel")
    assert big_endian_twin(tmp_path / "a.o") == tmp_path / "bpfeb/a.o"
    assert big_endian_twin(tmp_path / "b_bpfel.o") == tmp_path / "b_bpfeb.o"
    assert big_endian_twin(tmp_path / "c.o") is None
    # It is not loaded a second time, by itself.
    names = [path.name for path in contents_of(tmp_path).objects]
    assert names == ["a.o", "b_bpfel.o", "c.o"]


MAPS_ONLY = """\
#include "kernel_types.h"
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");
"""
STRUCT_OPS_ONLY = """\
#include "kernel_types.h"
struct operations { int owner; };
SEC(".struct_ops") struct operations none = { .owner = 1 };
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("int add(int a, int b) { return a + b; }\n", "no function in a section"),
        (MAPS_ONLY, "it has maps only"),
        (STRUCT_OPS_ONLY, "it has .struct_ops only"),
    ],
)
def test_an_object_without_programs_says_what_it_has(
    tmp_path: Path, source: str, reason: str
) -> None:
    told = refused(compiled(source, tmp_path / "none.o"))
    assert told.startswith("no eBPF program: ")
    assert reason in told


def test_files_that_cant_be_loaded_are_set_apart(
    library_project: Project, tmp_path: Path, rejected: Path
) -> None:
    (tmp_path / "text.o").write_text("int x;")
    (tmp_path / "empty.o").touch()
    given = [str(tmp_path / "text.o"), str(rejected), str(tmp_path / "empty.o")]
    plan = LoadPlan.make(library_project, find(library_project, given), VerifyOptions())
    assert [Path(one.object).name for one in plan.refused] == ["text.o", "empty.o"]
    assert [one.code for one in plan.refused] == [Code.BAD_OBJECT] * 2
    assert plan.refused[1].reason == "empty"
    (loaded,) = plan.by_place.values()
    assert loaded.programs == ("unchecked", "fine")
    with pytest.raises(UsageError) as caught:
        LoadPlan.make(library_project, find(library_project, given[:1]), VerifyOptions())
    assert "text.o: no ELF file" in caught.value.what
    with pytest.raises(UsageError) as caught:
        LoadPlan.make(library_project, find(library_project, given[::2]), VerifyOptions())
    assert caught.value.what.startswith("none of the 2 files can be loaded")
    assert caught.value.exit_status == 2


def test_a_folder_means_the_objects_in_it(
    library_project: Project, tmp_path: Path, rejected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "build"
    (root / ".output/deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / ".output/deep/a.bpf.o").write_bytes(rejected.read_bytes())
    (root / "b.o").write_bytes(rejected.read_bytes())
    (root / "cut.o").write_bytes(rejected.read_bytes()[:10])
    (root / "main.o").write_bytes(Path("/bin/true").read_bytes()[:4000])
    (root / "readme.txt").touch()
    (root / "dir.o").mkdir()
    (root / "loop").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    notes: list[str] = []
    found = find(library_project, ["build/b.o", "build"], [], notes.append)
    names = [one.path.relative_to(root).as_posix() for one in found]
    assert names == ["b.o", "cut.o", ".output/deep/a.bpf.o"]
    assert notes == ["build: 3 object files, and 1 file called *.o for other machines, left out"]
    with pytest.raises(UsageError, match="no eBPF object in this folder"):
        find(library_project, ["build/empty"])
    # What kernels.yaml declares for a folder is for all objects in it.
    entry = VerifyObjects(path=str(root), set={"x": 1})
    declared = find(project_with(library_project, entry), [])
    assert {one.settings.set["x"] for one in declared} == {1}
    assert len(declared) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_a_damaged_object_is_read_or_refused(
    tmp_path: Path, rejected: Path, data: st.DataObject
) -> None:
    content = bytearray(rejected.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.o"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(ObjectError):
        assert inspect(path, "the file").programs


def project_with(project: Project, *entries: VerifyObjects) -> Project:
    verify = project.config.verify.model_copy(update={"objects": list(entries)})
    config = project.config.model_copy(update={"verify": verify})
    return Project(project.root, config, project.cache)


def test_objects_are_those_that_are_named_or_declared_or_built(
    library_project: Project, monkeypatch: pytest.MonkeyPatch, rejected: Path
) -> None:
    root = library_project.root
    for name in ("a.o", "b ü.o", "[c].o"):
        (root / name).touch()
    (root / "folder").mkdir()
    monkeypatch.chdir(root / "folder")
    declared = project_with(library_project, VerifyObjects(path="?*.o", set={"x": 1}))

    def names(given: list[str], built: list[Path]) -> list[str]:
        return [one.name for one in find(declared, given, built)]

    assert names(["../b ü.o", "../*.o"], []) == ["b ü.o", "[c].o", "a.o"]
    assert names(["../[c].o"], []) == ["[c].o"]
    built = root / "folder/built.o"
    built.write_bytes(rejected.read_bytes())
    assert names([], [built]) == ["[c].o", "a.o", "b ü.o"]
    assert [one.name for one in find(library_project, [], [built])] == ["folder/built.o"]
    # What is named has what is declared for it.
    assert find(declared, ["../a.o"])[0].settings.set == {"x": 1}
    with pytest.raises(UsageError, match=r"none\*: no such file"):
        find(declared, ["none*"])
    with pytest.raises(UsageError, match="there is no eBPF object"):
        find(library_project, [])


def test_objects_with_the_same_settings_are_loaded_by_one_call(
    library_project: Project, rejected: Path
) -> None:
    for name in ("a.o", "b.o", "c.o"):
        (library_project.root / name).write_bytes(rejected.read_bytes())
    entries = (
        VerifyObjects(path="b.o", map_sizes={"counts": 5}, variants=[["unchecked", "fine"]]),
        VerifyObjects(path="[ac].o", requires="5.17 bpf_loop"),
    )
    project = project_with(library_project, *entries)
    plan = LoadPlan.make(project, find(project, []), VerifyOptions(set={"LICENSE": "x"}))
    loader = Path("/somewhere/bpfload")
    (first, words), (second, _) = plan.commands(loader, plan.by_place, 2, "kvm")
    assert list(words) == [
        *("/payload/bpfload", "--loader", "/payload/loader-libbpf", "--log-level", "stats"),
        *("--set", "LICENSE=x", "--map-size", "counts=5", "--variants", "unchecked,fine"),
        *("--limit", "30", "--jobs", "2", "--targets", "", "objects/1/b.o"),
    ]
    assert (first.places, second.places) == (
        ("objects/1/b.o",),
        ("objects/2/a.o", "objects/3/c.o"),
    )
    reason = "needs 5.17 (bpf_loop), this kernel is 5.10.262"
    assert plan.too_old("5.10.262") == dict.fromkeys(second.places, reason)
    assert plan.too_old("5.17") == {}
    assert [group for group, _ in plan.commands(loader, first.places, 2, "kvm")] == [first]


@pytest.mark.parametrize(
    ("filters", "chosen", "words"),
    [
        (("x.o/",), {"x.o": ("unchecked", "fine")}, ()),
        (("/fine",), {"x.o": ("fine",), "y.o": ("fine",)}, ("--only", "fine")),
        (
            ("x.o/fine", "y.o/unchecked"),
            {"x.o": ("fine",), "y.o": ("unchecked",)},
            # Each object has both; what it was not chosen for is left out of the results.
            ("--only", "fine", "--only", "unchecked"),
        ),
    ],
)
def test_patterns_choose_the_programs_that_a_loader_is_given(
    library_project: Project,
    rejected: Path,
    filters: tuple[str, ...],
    chosen: dict[str, tuple[str, ...]],
    words: tuple[str, ...],
) -> None:
    for name in ("x.o", "y.o"):
        (library_project.root / name).write_bytes(rejected.read_bytes())
    files = find(library_project, [str(library_project.root / name) for name in ("x.o", "y.o")])
    parsed = [parse_filter(text) for text in filters]
    names = tuple(one for one in parsed if isinstance(one, Names))
    plan = LoadPlan.make(library_project, files, VerifyOptions(names=names))
    assert {one.name: one.programs for one in plan.by_place.values()} == chosen
    for one in plan.by_place.values():
        assert one.left_out == {"unchecked", "fine"} - set(one.programs)
    ((_, command),) = plan.commands(Path("bpfload"), plan.by_place, 1, "kvm")
    assert tuple(command[command.index("stats") + 1 : command.index("--limit")]) == words


def test_patterns_that_leave_nothing_to_load_are_refused(
    library_project: Project, rejected: Path
) -> None:
    names = Names(None, "none")
    with pytest.raises(UsageError, match="--filter leaves no program"):
        LoadPlan.make(
            library_project, find(library_project, [str(rejected)]), VerifyOptions(names=(names,))
        )


def test_requirements_can_be_ignored(
    library_project: Project, rejected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_with(library_project, VerifyObjects(path=str(rejected), requires="9.9 x"))
    objects = find(project, [])
    assert LoadPlan.make(project, objects, VerifyOptions()).too_old("6.1.192")
    monkeypatch.setenv("BPFMATRIX_IGNORE_REQUIREMENTS", "1")
    assert not LoadPlan.make(project, objects, VerifyOptions()).too_old("6.1.192")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (
            VerifyOptions(set={"cuonts": "1"}),
            "--set cuonts: no object has such a variable (did you mean",
        ),
        (VerifyOptions(map_sizes={"x": "1"}), "--map-size x: no object has such a map"),
        (
            VerifyOptions(only=("fien",)),
            'program fien: no object has such a program (did you mean "f',
        ),
    ],
)
def test_a_name_that_no_object_has_is_refused(
    library_project: Project, rejected: Path, request_: VerifyOptions, sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        LoadPlan.make(library_project, find(library_project, [str(rejected)]), request_)
    assert caught.value.what.startswith(sentence)
