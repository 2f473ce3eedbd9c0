"""What is found in projects of each kind."""

from pathlib import Path

import pytest

from bpfmatrix.scaffold.executables import TestExecutable
from bpfmatrix.scaffold.makefiles import output_of
from bpfmatrix.scaffold.objects import MakeFolder, ObjectGroup
from tests.scaffold.project import EBPF, Files, executable, find

GO_MOD = "module example.org/tool\n\nrequire github.com/cilium/ebpf v0.17.0\n"
LOADS = 'package p\n\nimport "github.com/cilium/ebpf"\n'
TEST = 'package p\n\nimport "testing"\n\nfunc TestIt(t *testing.T) {}\n'
GENERATES = (
    "package p\n\n//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux prog prog.c\n"
)
MAKEFILE = "OBJS := $(patsubst %.bpf.c,%.bpf.o,$(wildcard *.bpf.c))\n%.bpf.o: %.bpf.c\n\tclang\n"


class TestGo:
    def test_packages_that_load_ebpf_are_declared_and_others_are_not(self, tmp_path: Path) -> None:
        found = find(
            tmp_path,
            {
                "go.mod": GO_MOD,
                "loader/loader.go": LOADS,
                "loader/loader_test.go": TEST,
                "cmd/main.go": 'package main\n\nimport (\n\t"os"\n\t"example.org/tool/loader"\n)\n',
                "cmd/main_test.go": TEST,
                "text/text.go": "package text\n",
                "text/text_test.go": TEST,
                "api/api.go": LOADS,
            },
        )
        assert found.module is not None
        assert found.module.packages == ("./cmd", "./loader")
        assert (found.module.tested, found.module.reaching) == (3, 2)
        assert found.module.folder == "."
        assert not found.module.cgo
        assert found.module.first == ()

    def test_a_test_that_mentions_ebpf_counts(self, tmp_path: Path) -> None:
        test = TEST + '// runs bpftool\nvar _ = os.Getenv("BPFMATRIX_OBJECTS")\n'
        found = find(tmp_path, {"go.mod": GO_MOD, "a/a_test.go": test, "b/b_test.go": TEST})
        assert found.module is not None
        assert found.module.packages == ("./a",)

    @pytest.mark.parametrize(
        ("constraint", "tags"),
        [
            ("integration", ("integration",)),
            ("linux && (integration || e2e) && !race", ("e2e", "integration")),
            ("!windows && go1.21 && amd64", ()),
            ("! integration", ()),
        ],
    )
    def test_build_tags_of_tests_are_declared(
        self, tmp_path: Path, constraint: str, tags: tuple[str, ...]
    ) -> None:
        test = f"//go:build {constraint}\n\n{TEST}// ebpf\n"
        found = find(tmp_path, {"go.mod": GO_MOD, "a/a_test.go": test, "a/b_test.go": TEST})
        assert found.module is not None
        assert found.module.tags == tags

    def test_packages_that_call_c_need_cgo(self, tmp_path: Path) -> None:
        calls = '//go:build cgo\n\npackage p\n\nimport "C"\n'
        files = {"go.mod": GO_MOD, "a/a_test.go": TEST, "a/a.go": LOADS}
        optional = find(tmp_path / "1", {**files, "a/c.go": calls}).module
        always = find(tmp_path / "2", {**files, "a/c.go": calls.partition("\n\n")[2]}).module
        assert optional is not None
        assert always is not None
        assert (optional.cgo, always.cgo) == (False, True)

    def test_modules_in_folders_are_apart_and_testdata_is_none(self, tmp_path: Path) -> None:
        found = find(
            tmp_path,
            {
                "go.mod": "module a\n",
                "a_test.go": TEST,
                "sub/go.mod": GO_MOD,
                "sub/x/x.go": LOADS,
                "sub/x/x_test.go": TEST,
                "other/go.mod": GO_MOD,
                "other/x_test.go": TEST + "// bpf\n",
                "testdata/go.mod": GO_MOD,
                "testdata/x_test.go": TEST,
                "_old/x_test.go": TEST,
            },
        )
        assert [one.folder for one in found.modules] == ["other", "sub", "."]
        assert [one.folder for one in found.other_modules] == ["sub"]

    def test_objects_of_bpf2go_are_found_or_have_to_be_generated(self, tmp_path: Path) -> None:
        files: Files = {
            "go.mod": GO_MOD,
            "p/gen.go": GENERATES,
            "p/p_test.go": TEST,
            "p/prog.c": "SEC(",
        }
        tracked = find(tmp_path / "1", {**files, "p/prog_bpfel.o": EBPF, "p/prog_bpfeb.o": EBPF})
        assert tracked.objects == (ObjectGroup("p/prog_bpfel.o", 1, "cilium-ebpf"),)
        assert tracked.first == ()
        missing = find(tmp_path / "2", files)
        assert missing.objects == (ObjectGroup("p/*_bpfel.o", 0, "cilium-ebpf"),)
        assert missing.first == ("go generate ./p",)
        assert missing.sources == ()

    def test_of_objects_for_each_architecture_the_hosts_are_taken(self, tmp_path: Path) -> None:
        names = ("a_x86_bpfel.o", "a_arm64_bpfel.o", "tracer.ebpf.amd64", "tracer.ebpf.arm64")
        found = find(tmp_path, dict.fromkeys(names, EBPF))
        assert [one.pattern for one in found.objects] == ["a_x86_bpfel.o", "tracer.ebpf.amd64"]


class TestObjects:
    def test_objects_of_a_folder_are_one_pattern(self, tmp_path: Path) -> None:
        files = {f"build/{name}.bpf.o": EBPF for name in "abc"}
        assert find(tmp_path, files).objects == (ObjectGroup("build/*.bpf.o", 3, "libbpf"),)

    def test_a_pattern_that_matches_other_files_is_not_used(self, tmp_path: Path) -> None:
        files: Files = {
            "out/a.o": EBPF,
            "out/b.o": EBPF,
            "out/main.o": executable(),
            "out/x.o": "text",
        }
        patterns = [one.pattern for one in find(tmp_path, files).objects]
        assert patterns == ["out/a.o", "out/b.o"]

    def test_many_folders_are_one_pattern(self, tmp_path: Path) -> None:
        files = {f"tools/{name}/{name}.bpf.o": EBPF for name in "abcd"}
        assert find(tmp_path, files).objects == (ObjectGroup("tools/**/*.bpf.o", 4, "libbpf"),)

    def test_blanks_and_brackets_in_names_stay_names(self, tmp_path: Path) -> None:
        found = find(tmp_path, {"my out/a [1].o": EBPF, "[2]/a.bpf.o": EBPF})
        patterns = {one.pattern for one in found.objects}
        assert patterns == {"my out/a [[]1].o", "[[]2]/*.bpf.o"}

    def test_objects_of_testdata_are_left_out(self, tmp_path: Path) -> None:
        assert find(tmp_path, {"p/testdata/a.bpf.o": EBPF, "a_bpfeb.o": EBPF}).is_empty

    def test_ignored_objects_are_built_by_the_makefile_above(self, tmp_path: Path) -> None:
        files: Files = {".gitignore": "build\n", "build/a.bpf.o": EBPF, "Makefile": "all: ;\n"}
        (group,) = find(tmp_path, files, git=True).objects
        assert group == ObjectGroup("build/*.bpf.o", 1, "libbpf", "make")


class TestMake:
    def test_a_folder_whose_make_leaves_objects_there_is_declared(self, tmp_path: Path) -> None:
        found = find(tmp_path, {"bpf/Makefile": MAKEFILE, "bpf/a.bpf.c": "", "bpf/b.bpf.c": ""})
        assert found.make == (MakeFolder("bpf", 2),)
        assert found.objects == ()
        assert found.loaders == ("libbpf",)

    def test_tests_that_make_builds_beside_objects_are_declared(self, tmp_path: Path) -> None:
        makefile = MAKEFILE + "load_test test-attach: x.c\n\tcc -static\n.PHONY: test\ntest:\n\tx\n"
        (make,) = find(tmp_path, {"bpf/Makefile": makefile, "bpf/a.bpf.c": ""}).make
        assert make.tests == ("bpf/load_test", "bpf/test-attach")
        assert make.are_static

    def test_make_that_calls_go_generate_builds_the_objects(self, tmp_path: Path) -> None:
        makefile = "prog_bpfel.o: ../bpf/prog.c\n\tgo generate\n"
        files = {"go.mod": GO_MOD, "p/gen.go": GENERATES, "p/p_test.go": TEST}
        found = find(tmp_path, {**files, "p/Makefile": makefile})
        assert found.make == (MakeFolder("p", 1, "cilium-ebpf"),)
        assert (found.objects, found.first, found.loaders) == ((), (), ("cilium-ebpf",))

    def test_objects_elsewhere_have_to_be_made_first(self, tmp_path: Path) -> None:
        makefile = "OUTPUT := .output\n$(OUTPUT)/%.bpf.o: %.bpf.c | $(OUTPUT)\n\tclang\n"
        found = find(tmp_path, {"src/Makefile": makefile, "src/a.bpf.c": ""})
        assert found.make == ()
        assert found.objects == (ObjectGroup("src/.output/*.bpf.o", 0, "libbpf", "make -C src"),)
        assert found.first == ("make -C src",)

    def test_steps_between_source_and_object_are_left_out(self, tmp_path: Path) -> None:
        makefile = "out/%.bpf.o: %.bpf.c\n\tclang -o $(patsubst %.bpf.o,%.tmp.bpf.o,$@)\n"
        found = find(tmp_path, {"Makefile": makefile, "a.bpf.c": "", "b.bpf.c": ""})
        assert [one.pattern for one in found.objects] == ["out/a.bpf.o", "out/b.bpf.o"]

    def test_of_built_objects_those_that_are_there_are_declared(self, tmp_path: Path) -> None:
        makefile = "out/%.bpf.o: %.bpf.c\n\tclang -o $(patsubst %.bpf.o,%.tmp.bpf.o,$@)\n"
        sources = {"Makefile": makefile, ".gitignore": "out\n", "a.bpf.c": "", "b.bpf.c": ""}
        built = dict.fromkeys(("out/a.bpf.o", "out/a.tmp.bpf.o"), EBPF)
        found = find(tmp_path, {**sources, **built}, git=True)
        assert found.objects == (ObjectGroup("out/a.bpf.o", 1, "libbpf", "make"),)

    def test_sources_that_nothing_builds_are_told(self, tmp_path: Path) -> None:
        found = find(tmp_path, {"src/a.bpf.c": "", "Makefile": "all:\n\ttrue\n"})
        assert found.sources == ("src/a.bpf.c",)
        assert found.is_empty

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            (MAKEFILE, (".", "*.bpf.o")),
            ("$(OUTPUT)%.bpf.o: %.bpf.c\n\tclang\n", (".", "*.bpf.o")),
            ("O = build\nD = $(O)/bpf\n${D}/%.bpf.o: x\n\tclang\n", ("build/bpf", "*.bpf.o")),
            ("OUT := $(abspath .output)\n$(OUT)/%.bpf.o: a\n\tx\n", (".output", "*.bpf.o")),
            ("OUT := $(CURDIR)/o\n$(OUT)/a.bpf.o: a\n\tx\n", ("./o", "*.bpf.o")),
            ("%.o: %.c\n\tclang -target bpf -c $<\n", (".", "*.o")),
            ("%.o: %.c\n\t$(CC) -c $<\n", None),
            ("A = $(B)\nB = $(A)\n$(A)x.bpf.o: x\n\tclang\n", (".", "*.bpf.o")),
            ("all: a b\n", None),
            ("", None),
        ],
    )
    def test_the_folder_of_objects_is_read_in_rules(
        self, text: str, rule: tuple[str, str] | None
    ) -> None:
        assert output_of(text) == rule


class TestRust:
    def test_a_workspace_with_aya_is_tested_by_cargo(self, tmp_path: Path) -> None:
        found = find(
            tmp_path,
            {
                "Cargo.toml": '[workspace]\nmembers = ["tool", "tool-ebpf"]\n',
                "tool/Cargo.toml": '[dependencies]\naya = "0.13"\n',
                "tool-ebpf/Cargo.toml": "[dependencies]\naya-ebpf = { workspace = true }\n",
            },
        )
        assert [(one.folder, one.loader) for one in found.cargo] == [(".", "aya")]
        ((line,),) = found.foreign_commands
        variable = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
        assert line == f"{variable}='bpfmatrix exec --kernel 6.1' cargo test"

    def test_objects_of_aya_are_loaded_with_aya(self, tmp_path: Path) -> None:
        found = find(
            tmp_path,
            {
                "Cargo.toml": '[dependencies]\naya = "0.13"\n',
                "target/bpfel-unknown-none/release/tool": EBPF,
            },
        )
        (group,) = found.objects
        assert group.pattern == "target/bpfel-unknown-none/release/tool"
        assert found.loaders == ("aya",)

    def test_rust_without_ebpf_beside_other_things_is_not_told(self, tmp_path: Path) -> None:
        files: Files = {"a.bpf.o": EBPF, "tools/Cargo.toml": "[package]\n"}
        assert find(tmp_path, files).foreign_commands == ()


class TestExecutables:
    def test_built_tests_are_declared_and_other_programs_are_not(self, tmp_path: Path) -> None:
        found = find(
            tmp_path,
            {
                "build/test_maps": executable(),
                "build/tool": executable(),
                "tests/has_btf": executable(is_static=False),
                "tests/run.sh": "#!/bin/sh\n",
                "build/libtest.so": executable(),
                "src/test_x": executable(),
            },
        )
        assert found.executables == (
            TestExecutable("build/test_maps", "x86_64", True),
            TestExecutable("tests/has_btf", "x86_64", False),
        )

    def test_the_architecture_is_that_of_the_tests(self, tmp_path: Path) -> None:
        found = find(tmp_path, {"build/a_test": executable(183), "build/b_test": executable(183)})
        assert found.arch == "aarch64"
        assert len(found.executables) == 2

    def test_tests_for_another_host_than_this_are_left_out(self, tmp_path: Path) -> None:
        found = find(tmp_path, {"build/a_test": executable(183), "build/b_test": executable()})
        assert [one.path for one in found.executables] == ["build/b_test"]

    def test_a_damaged_executable_is_left_out(self, tmp_path: Path) -> None:
        assert find(tmp_path, {"build/a_test": b"\x7fELF" + b"\xff" * 40}).is_empty

    def test_runners_of_build_systems_are_told(self, tmp_path: Path) -> None:
        found = find(
            tmp_path,
            {
                "CMakeLists.txt": "enable_testing()\nadd_subdirectory(sub)\n",
                "sub/CMakeLists.txt": "add_test(NAME a COMMAND a)\n",
                "c/meson.build": "project('x')\ntest('a', exe)\n",
            },
        )
        assert [(one.name, one.folder) for one in found.runners] == [("meson", "c"), ("ctest", ".")]
        assert [commands[-1] for commands in found.foreign_commands] == [
            "meson test -C c/build --wrapper='bpfmatrix exec --kernel 6.1' --timeout-multiplier 4",
            "ctest --test-dir build",
        ]
