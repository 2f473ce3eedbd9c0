"""Objects that are loaded more than once: with several loaders, and with presets."""

from pathlib import Path

import pytest

from bpfmatrix.config.models import Preset, Verify, VerifyObjects
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.session.observer import Observer
from bpfmatrix.verify.loader_choice import remind_of_choice
from bpfmatrix.verify.objects import find
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.plan import LoadPlan
from tests.verify.objectfiles import REJECTED, compiled
from tests.verify.test_objects import project_with

SUPERVISOR = Path("/somewhere/bpfload")
PRESETS = {
    "small": Preset(map_sizes={"counts": 16}),
    "large": Preset(set={"LICENSE": "GPL"}, map_sizes={"counts": 4096}),
}


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(REJECTED, tmp_path_factory.mktemp("objects") / "a.bpf.o")


def plan_of(
    project: Project, rejected: Path, options: VerifyOptions, *entries: VerifyObjects
) -> LoadPlan:
    project = project_with(project, *entries)
    return LoadPlan.make(project, find(project, [str(rejected)]), options)


def test_an_object_is_loaded_once_with_each_loader(
    library_project: Project, rejected: Path
) -> None:
    options = VerifyOptions(loaders=("libbpf", "cilium-ebpf", "libbpf"))
    plan = plan_of(library_project, rejected, options)
    assert plan.loaders == ("libbpf", "cilium-ebpf")
    assert [(one.loader, one.label) for one in plan.by_place.values()] == [
        ("libbpf", "libbpf"),
        ("cilium-ebpf", "cilium-ebpf"),
    ]
    assert set(plan.files.values()) == {rejected}
    (_, first), (_, second) = plan.commands(SUPERVISOR, plan.by_place, 1, "kvm")
    assert first[1:3] == ("--loader", "/payload/loader-libbpf")
    assert second[1:3] == ("--loader", "/payload/loader-cilium-ebpf")
    assert (first[-1], second[-1]) == ("objects/1/a.bpf.o", "objects/2/a.bpf.o")
    programs = {name: SUPERVISOR.with_name(f"loader-{name}") for name in plan.loaders}
    payload = plan.payload(SUPERVISOR, programs)
    assert payload.extra["loader-cilium-ebpf"].name == "loader-cilium-ebpf"


def test_the_loader_of_an_object_comes_before_that_of_all(
    library_project: Project, rejected: Path
) -> None:
    entry = VerifyObjects(path=str(rejected), loader="aya")
    verify = Verify(objects=[entry], loader=["cilium-ebpf", "libbpf"])
    config = library_project.config.model_copy(update={"verify": verify})
    project = Project(library_project.root, config, library_project.cache)
    found = find(project, [])
    assert LoadPlan.make(project, found, VerifyOptions()).loaders == ("aya",)
    given = VerifyOptions(loaders=("libbpf",))
    assert LoadPlan.make(project, found, given).loaders == ("libbpf",)
    other = verify.model_copy(update={"objects": [VerifyObjects(path=str(rejected))]})
    config = config.model_copy(update={"verify": other})
    project = Project(library_project.root, config, library_project.cache)
    found = find(project, [])
    assert LoadPlan.make(project, found, VerifyOptions()).loaders == ("cilium-ebpf", "libbpf")
    first = VerifyOptions(first_loader_only=True)
    assert LoadPlan.make(project, found, first).loaders == ("cilium-ebpf",)


def test_each_preset_has_its_values_over_those_of_the_object(
    library_project: Project, rejected: Path
) -> None:
    entry = VerifyObjects(
        path=str(rejected), set={"LICENSE": "x"}, map_sizes={"counts": 1}, presets=PRESETS
    )
    plan = plan_of(library_project, rejected, VerifyOptions(), entry)
    assert [(one.preset, one.label) for one in plan.by_place.values()] == [
        ("small", "small"),
        ("large", "large"),
    ]
    small, large = (list(words) for _, words in plan.commands(SUPERVISOR, plan.by_place, 1, "kvm"))
    assert small[5:9] == ["--set", "LICENSE=x", "--map-size", "counts=16"]
    assert large[5:9] == ["--set", "LICENSE=GPL", "--map-size", "counts=4096"]


def test_presets_are_chosen_by_name(library_project: Project, rejected: Path) -> None:
    entry = VerifyObjects(path=str(rejected), presets=PRESETS)
    chosen = VerifyOptions(presets=("large",))
    (only,) = plan_of(library_project, rejected, chosen, entry).by_place.values()
    assert (only.preset, only.label) == ("large", "")
    with pytest.raises(UsageError) as caught:
        plan_of(library_project, rejected, VerifyOptions(presets=("lrge",)), entry)
    assert caught.value.what.startswith("--preset lrge: no object has such a preset (did you mean")


def test_the_limit_scales_with_emulation(library_project: Project, rejected: Path) -> None:
    plan = plan_of(library_project, rejected, VerifyOptions())
    assert (plan.limit("kvm"), plan.limit("tcg")) == (30, 300)
    # What a user asks for is what they get.
    plan = plan_of(library_project, rejected, VerifyOptions(limit_seconds=5))
    assert (plan.limit("kvm"), plan.limit("tcg")) == (5, 5)


class Steps(Observer):
    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        self.steps.append((name, detail))


GO_MOD = "module x\n\nrequire (\n\tgithub.com/cilium/ebpf v0.22.0\n)\n"


def test_a_project_with_cilium_ebpf_is_told_of_the_choice_once(library_project: Project) -> None:
    (library_project.root / "go.mod").write_text(GO_MOD)
    observer = Steps()
    for _ in range(2):
        remind_of_choice(library_project, observer)
    ((name, detail),) = observer.steps
    assert name == "loader"
    assert "cilium-ebpf" in detail


@pytest.mark.parametrize(
    "text", ["module github.com/cilium/ebpf/cmd\n", "require github.com/cilium/ebpfx v1.0.0\n"]
)
def test_others_are_told_nothing(library_project: Project, text: str) -> None:
    observer = Steps()
    remind_of_choice(library_project, observer)
    (library_project.root / "go.mod").write_text(text)
    remind_of_choice(library_project, observer)
    assert not observer.steps


def test_a_project_that_has_chosen_is_told_nothing(library_project: Project) -> None:
    (library_project.root / "go.mod").write_text(GO_MOD)
    verify = Verify(loader="libbpf")
    config = library_project.config.model_copy(update={"verify": verify})
    observer = Steps()
    remind_of_choice(Project(library_project.root, config, library_project.cache), observer)
    assert not observer.steps


def test_the_object_with_the_function_that_another_one_replaces_is_named(
    library_project: Project, rejected: Path, tmp_path: Path
) -> None:
    text = '#include "kernel_types.h"\nchar LICENSE[] SEC("license") = "GPL";\n'
    target = compiled(
        text + "__attribute__((noinline)) int decide(void *ctx) { return ctx != 0; }\n"
        'SEC("tc") int filter(void *ctx) { return decide(ctx); }\n',
        tmp_path / "target.o",
    )
    extension = compiled(
        text + 'SEC("freplace/decide") int other(void *ctx) { return 1; }\n',
        tmp_path / "extension.o",
    )
    # Another setting, so another call of the supervisor.
    project = project_with(library_project, VerifyObjects(path=str(target), optional=["filter"]))
    objects = find(project, [str(rejected), str(target), str(extension)])
    plan = LoadPlan.make(project, objects, VerifyOptions())
    words = {
        group.places: command[command.index("--targets") + 1]
        for group, command in plan.commands(SUPERVISOR, plan.by_place, 1, "kvm")
    }
    assert words == {
        ("objects/1/a.bpf.o", "objects/3/extension.o"): "objects/2/target.o",
        ("objects/2/target.o",): "",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("set", {"nothing": 1}),
        ("map_sizes", {"nothing": 1}),
        ("optional", ["nothing"]),
        ("variants", [["fine", "nothing"]]),
        ("presets", {"small": Preset(set={"nothing": 1})}),
    ],
)
def test_a_name_in_kernels_yaml_that_no_object_has_is_refused(
    library_project: Project, rejected: Path, key: str, value: object
) -> None:
    entry = VerifyObjects.model_validate({"path": str(rejected), key: value})
    project = project_with(library_project, entry)
    with pytest.raises(UsageError, match="has nothing, which none of its objects has"):
        LoadPlan.make(project, find(project, []), VerifyOptions())
    # The command line may name objects of which only some have it.
    LoadPlan.make(project, find(project, []), VerifyOptions(objects=(str(rejected),)))


def test_an_object_has_a_plain_name_in_the_guest(library_project: Project, rejected: Path) -> None:
    odd = rejected.with_name("größe, same -o name.bpf.o")
    odd.write_bytes(rejected.read_bytes())
    plan = plan_of(library_project, odd, VerifyOptions())
    assert list(plan.by_place) == ["objects/1/gr__e__same_-o_name.bpf.o"]
