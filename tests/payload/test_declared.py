"""What a project declares: tests, objects, both or nothing, by kernels.yaml and its folders."""

import dataclasses
from typing import Any

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError
from bpfmatrix.payload import ebpf, go
from bpfmatrix.payload.declared import declared, nothing_declared

KERNELS = {"6.1": {"source": {"oci": "example/6.1"}}}


def declaring(project: Project, *files: str, **keys: Any) -> Project:
    for name in files:
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    config = Config.model_validate({"kernels": KERNELS, **keys})
    return dataclasses.replace(project, config=config)


@pytest.mark.parametrize(
    ("files", "keys", "parts"),
    [
        ((), {}, ()),
        # Folders that the defaults of kernels.yaml name.
        (("support/go.mod",), {}, ("tests",)),
        (("ebpf/Makefile",), {}, ("verify",)),
        (("ebpf/Makefile", "support/go.mod"), {}, ("verify", "tests")),
        # Another folder of this name declares nothing.
        (("ebpf/x.bpf.c", "support/x.go"), {}, ()),
        ((), {"verify": {"objects": [{"path": "build/*.o"}]}}, ("verify",)),
        ((), {"payload": {"binaries": ["t"]}}, ("tests",)),
        # What is named counts, so that its absence is an error.
        ((), {"payload": {"go": {"module": "."}}}, ("tests",)),
        ((), {"payload": {"ebpf": "bpf"}}, ("verify",)),
        (("ebpf/Makefile", "support/go.mod"), {"payload": {"ebpf": None, "go": None}}, ()),
    ],
)
def test_what_is_declared(
    library_project: Project, files: tuple[str, ...], keys: dict[str, Any], parts: tuple[str, ...]
) -> None:
    assert declared(declaring(library_project, *files, **keys)) == parts


def test_a_go_module_that_is_named_and_missing_is_an_error(library_project: Project) -> None:
    assert go.build_tests(declaring(library_project), "x86_64").tests == ()
    named = declaring(library_project, payload={"go": {"module": "src"}})
    with pytest.raises(ConfigError, match=r"payload.go.module: src/go.mod does not exist"):
        go.build_tests(named, "x86_64")


def test_a_folder_without_a_makefile_that_is_named_is_an_error(library_project: Project) -> None:
    assert ebpf.objects(declaring(library_project, "ebpf/x.bpf.o")).files == ()
    named = declaring(library_project, "bpf/x.bpf.o", payload={"ebpf": "bpf"})
    with pytest.raises(ConfigError) as caught:
        ebpf.objects(named)
    assert caught.value.what == "kernels.yaml: payload.ebpf: bpf has no Makefile"
    assert 'verify: {objects: [{path: "bpf/*.o"}]}' in caught.value.advice


def test_who_declares_nothing_sees_an_example_of_each_key() -> None:
    for key in ("go: {module", "binaries: [", "verify: {objects: [{path", "ebpf: "):
        assert key in nothing_declared().advice
