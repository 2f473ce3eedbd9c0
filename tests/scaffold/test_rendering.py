"""The kernels.yaml that is written: right for what was found, and of the kernels that there are."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config import kernels_yaml
from bpfmatrix.config.models import Config
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.scaffold import rendering
from bpfmatrix.scaffold.kernel_list import Answers, KernelChoice, KernelList, choose
from tests.scaffold.project import EBPF, Files, executable, find
from tests.scaffold.test_findings import GENERATES, GO_MOD, LOADS, MAKEFILE, TEST

KERNELS = KernelList(
    (
        KernelChoice("5.10", "{apt: {suite: bullseye-security}}"),
        KernelChoice("5.15", '{oci: "ghcr.io/cilium/ci-kernels:5.15"}', "ghcr.io can't be reached"),
        KernelChoice("7.3", "{apt: {suite: trixie-backports}}"),
    )
)


def written(folder: Path, files: Files, kernels: KernelList = KERNELS) -> Config:
    """Return what the kernels.yaml says that is written for a project with these files."""
    text = rendering.kernels_yaml(find(folder, files), kernels)
    (folder / "kernels.yaml").write_text(text)
    return kernels_yaml.load(folder / "kernels.yaml")


def test_a_go_module(tmp_path: Path) -> None:
    files: Files = {
        "src/go.mod": GO_MOD,
        "src/p/p.go": LOADS,
        "src/p/p_test.go": f"//go:build integration\n\n{TEST}",
        "src/q/q_test.go": TEST,
    }
    config = written(tmp_path, files)
    assert config.matrix_ids == ["5.10", "7.3"]
    assert config.payload.ebpf is None
    assert config.payload.go is not None
    assert config.payload.go.module == Path("src")
    assert config.payload.go.packages == ["./p"]
    assert config.payload.go.tags == ["integration"]


def test_objects_of_two_loaders(tmp_path: Path) -> None:
    files: Files = {
        "c/a.bpf.o": EBPF,
        "go/go.mod": GO_MOD,
        "go/p/gen.go": GENERATES,
        "go/p/x_test.go": TEST,
    }
    config = written(tmp_path, files)
    assert config.verify.loader is None
    assert [(one.path, one.loader) for one in config.verify.objects] == [
        ("c/*.bpf.o", "libbpf"),
        ("go/p/*_bpfel.o", "cilium-ebpf"),
    ]
    assert (
        "# Made by `go generate`, which has to be run first."
        in (tmp_path / "kernels.yaml").read_text()
    )


def test_objects_that_make_leaves_beside_those_of_another_loader(tmp_path: Path) -> None:
    files: Files = {
        "c/a.bpf.o": EBPF,
        "go/go.mod": GO_MOD,
        "go/p/gen.go": GENERATES,
        "go/p/Makefile": "all:\n\tgo generate\n",
        "go/p/x_test.go": TEST,
    }
    config = written(tmp_path, files)
    assert config.payload.ebpf == Path("go/p")
    assert [(one.path, one.loader) for one in config.verify.objects] == [
        ("go/p/*.o", "cilium-ebpf"),
        ("c/*.bpf.o", "libbpf"),
    ]


def test_pages_are_named_by_addresses(tmp_path: Path) -> None:
    found = find(
        tmp_path, {"a.bpf.o": EBPF, "CMakeLists.txt": "add_test(a b)\n", "meson.build": ""}
    )
    texts = [rendering.kernels_yaml(found, KERNELS)]
    texts += [rendering.ci_text(system, "main", found) for system in rendering.CI_FILES]
    for text in texts:
        named = re.findall(r"\S*docs/[\w-]+\.md", text)
        assert named
        assert [one for one in named if "https://" not in one] == []


def test_odd_names_are_names(tmp_path: Path) -> None:
    names = ("a\nb: [c] #.o", "it's \x1b[31m.o", 'q"q.o', "-.o", "~.o", "\N{GRINNING FACE}.o")
    config = written(tmp_path, {**{f"x/{name}": EBPF for name in names}, "x/z.o": "no object"})
    found = {one for each in config.verify.objects for one in tmp_path.glob(each.path)}
    assert found == {tmp_path / "x" / name for name in names}


def test_make_and_executables(tmp_path: Path) -> None:
    files: Files = {
        "bpf/Makefile": MAKEFILE,
        "bpf/a.bpf.c": "",
        "build/a test": executable(is_static=False),
        "build/b_test": executable(),
    }
    config = written(tmp_path, files)
    assert config.payload.ebpf == Path("bpf")
    assert config.payload.go is None
    assert config.payload.rootfs == "host"
    assert [one.path for one in config.payload.binaries] == [
        *(Path("build/a test"), Path("build/b_test")),
    ]


def test_tests_of_another_architecture(tmp_path: Path) -> None:
    config = written(tmp_path, {"build/a_test": executable(183)})
    assert config.kernel("7.3").arch == "aarch64"


def test_nothing(tmp_path: Path) -> None:
    config = written(tmp_path, {"README": ""})
    assert (config.payload.ebpf, config.payload.go, config.payload.binaries) == (None, None, [])
    text = (tmp_path / "kernels.yaml").read_text()
    # The examples are right as they stand, once their # is removed.
    examples = [line.removeprefix("  # ") for line in text.splitlines() if line.startswith("  # ")]
    for line in examples:
        if line.startswith(("ebpf: ", "go: ", "binaries: ")):
            Config.model_validate(
                {"payload": yaml.safe_load(line), "kernels": {"6.1": {"source": {"oci": "a/b:1"}}}}
            )


def test_a_kernel_that_is_left_out_is_a_comment_with_the_reason(tmp_path: Path) -> None:
    written(tmp_path, {})
    text = (tmp_path / "kernels.yaml").read_text()
    assert (
        "  # Left out: ghcr.io can't be reached. Remove the # below to try it.\n"
        '  # "5.15": {source: {oci: "ghcr.io/cilium/ci-kernels:5.15"}}\n' in text
    )
    assert kernels_yaml.load(tmp_path / "kernels.yaml").kernels.keys() == {"5.10", "7.3"}
    (tmp_path / "kernels.yaml").write_text(text.replace('  # "5.15"', '  "5.15"'))
    assert "5.15" in kernels_yaml.load(tmp_path / "kernels.yaml").kernels


def test_lines_are_not_long(tmp_path: Path) -> None:
    files: Files = {
        "go.mod": GO_MOD,
        **{f"package{n}/x_test.go": TEST + "// bpf\n" for n in range(15)},
    }
    found = find(tmp_path, {**files, "plain/x_test.go": TEST})
    lines = rendering.kernels_yaml(found, KERNELS).splitlines()
    assert max(map(len, lines[1:])) <= 100
    assert "    packages:" in lines


@given(st.text())
def test_every_name_survives_yaml(name: str) -> None:
    assert yaml.safe_load(f"key: {rendering.scalar(name)}") == {"key": name}


def test_the_workflow_of_github_builds_what_has_to_be_built(tmp_path: Path) -> None:
    files: Files = {"src/go.mod": GO_MOD, "src/p/gen.go": GENERATES, "src/p/p_test.go": TEST}
    found = find(tmp_path, files)
    text = rendering.ci_text("github", "trunk", found, "a project")
    workflow = yaml.safe_load(text)
    assert workflow[True]["push"]["branches"] == ["trunk"]  # YAML 1.1 reads `on` as true
    checkout, go, generate, bpfmatrix = workflow["jobs"]["matrix"]["steps"]
    assert go["with"] == {"go-version-file": "a project/src/go.mod"}
    assert generate == {"run": "go -C src generate ./p", "working-directory": "a project"}
    assert bpfmatrix["with"]["working-directory"] == "a project"
    assert bpfmatrix["uses"].startswith("bpfmatrix/bpfmatrix@")
    assert checkout["uses"].startswith("actions/checkout@")


def test_without_anything_to_build_the_templates_are_written_as_they_are(tmp_path: Path) -> None:
    found = find(tmp_path, {"a.bpf.o": EBPF})
    for system in rendering.CI_FILES:
        assert rendering.ci_text(system, "main", found) == rendering.ci_text(system, "main")


def test_the_job_of_gitlab_has_go(tmp_path: Path) -> None:
    found = find(tmp_path, {"go.mod": GO_MOD, "p_test.go": TEST})
    job = yaml.safe_load(rendering.ci_text("gitlab", "main", found))["bpfmatrix"]
    assert job["variables"]["BPFMATRIX_PACKAGES"] == "golang-go"


def test_the_job_of_gitlab_for_a_folder() -> None:
    job = yaml.safe_load(rendering.ci_text("gitlab", "main", folder="a/b"))["bpfmatrix"]
    assert job["variables"]["BPFMATRIX_FOLDER"] == "a/b"
    assert job["cache"]["key"]["files"] == ["a/b/kernels.lock", "a/b/kernels.yaml"]
    assert "BPFMATRIX_FOLDER" not in rendering.ci_text("gitlab", "main")


class TestKernels:
    @pytest.fixture
    def answers(self, tmp_path: Path) -> Answers:
        series = {
            "bullseye-security": ("5.10",),
            "bookworm-security": ("5.10", "6.1"),
            "trixie-security": ("6.12",),
            "trixie-backports": ("6.16", "7.2", "7.3"),
        }
        return Answers("x86_64", Cache(tmp_path), series)

    def choose(
        self, answers: Answers, errors: Mapping[str, BpfmatrixError | None]
    ) -> tuple[list[str], KernelList]:
        chosen = choose(answers, {**dict.fromkeys(answers.questions()), **errors})
        return chosen.ids, chosen

    def test_all_sources_answer(self, answers: Answers) -> None:
        ids, chosen = self.choose(answers, {})
        assert ids == ["5.10", "5.15", "6.1", "6.6", "6.12", "7.3"]
        assert {one.unchecked for one in chosen.kernels} == {""}

    def test_a_registry_that_can_not_be_reached(self, answers: Answers) -> None:
        error = UnreachableError("ghcr.io can't be reached")
        ids, chosen = self.choose(answers, {"ghcr.io/cilium/ci-kernels:6.6": error})
        assert ids == ["5.10", "5.15", "6.1", "6.12", "7.3"]
        assert [one.why_not for one in chosen.kernels if one.id == "6.6"] == [error.what]

    def test_without_a_network_the_known_list_is_written(
        self, answers: Answers, tmp_path: Path
    ) -> None:
        answers.series.clear()
        errors = {one: UnreachableError(f"{one} can't be reached") for one in answers.questions()}
        chosen = choose(answers, errors)
        assert chosen.ids == ["5.10", "6.1", "6.12", "newest"]
        config = written(tmp_path, {}, chosen)
        newest = config.kernel("newest").source.apt
        assert newest is not None
        assert newest.package == "linux-image-cloud-amd64"
        text = (tmp_path / "kernels.yaml").read_text()
        for suite in ("bullseye", "bookworm", "trixie"):
            assert re.search(
                rf"# Not checked: {suite}-security can't be reached\.\n"
                rf'  "[0-9.]+": {{source: {{apt: {{suite: {suite}-security}}}}}}\n',
                text,
            )

    def test_a_host_that_knows_no_mirror(self, answers: Answers) -> None:
        answers.series.clear()
        error = KernelUnavailableError("bookworm-security: no mirror of Debian's archive is known")
        chosen = choose(answers, dict.fromkeys(answers.questions(), error))
        assert chosen.ids == []

    def test_a_suite_without_the_architecture(self, tmp_path: Path) -> None:
        answers = Answers("riscv64", Cache(tmp_path), {"trixie-security": ("6.12",)})
        chosen = choose(answers, dict.fromkeys(answers.questions()))
        assert chosen.ids == ["6.12"]
        assert [(one.id, one.why_not) for one in chosen.kernels][:2] == [
            ("5.10", "bullseye-security has no such kernel for riscv64"),
            ("6.1", "bookworm-security has no such kernel for riscv64"),
        ]
