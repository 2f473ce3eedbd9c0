"""The JSON schema and the page of kernels.yaml, generated from the models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bpfmatrix.config import kernels_yaml, reference
from bpfmatrix.config.models import Config
from bpfmatrix.config.yaml_file import models_in
from bpfmatrix.errors import ConfigError
from tests.tool import REPOSITORY

KERNEL = {"source": {"apt": {"suite": "bookworm-security"}}}


def with_kernel(**more: Any) -> dict[str, Any]:
    return {"kernels": {"6.1": {**KERNEL, **more}}}


def schema_accepts(data: object) -> bool:
    return bool(jsonschema.Draft202012Validator(reference.schema()).is_valid(data))


def models_accept(data: object, folder: Path) -> bool:
    path = folder / "kernels.yaml"
    path.write_text(yaml.safe_dump(data))
    try:
        kernels_yaml.load(path)
    except ConfigError:
        return False
    return True


def test_committed_files_are_up_to_date() -> None:
    assert reference.stale(REPOSITORY) == []


def test_stale_names_what_is_missing_or_different(tmp_path: Path) -> None:
    for path, text in reference.outputs(tmp_path).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert reference.stale(tmp_path) == []
    (tmp_path / "docs/kernels-yaml.md").write_text("old")
    (tmp_path / "kernels.schema.json").unlink()
    assert {path.name for path in reference.stale(tmp_path)} == {
        "kernels-yaml.md",
        "kernels.schema.json",
    }


def test_the_committed_schema_is_valid_and_accepts_this_repositorys_file() -> None:
    schema = json.loads((REPOSITORY / "kernels.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load((REPOSITORY / "kernels.yaml").read_text()), schema)


def test_kernels_yaml_names_the_schema() -> None:
    first = (REPOSITORY / "kernels.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=kernels.schema.json"


def test_the_schema_accepts_its_own_defaults() -> None:
    def check(node: dict[str, Any], whole: dict[str, Any]) -> int:
        count = 0
        for described in node.get("properties", {}).values():
            if described.get("default") is not None:
                # jsonschema.validate() would check the schema itself each time.
                own = {**described, "$defs": whole["$defs"]}
                jsonschema.Draft202012Validator(own).validate(described["default"])
                count += 1
        return count

    whole = reference.schema()
    checked = sum(check(node, whole) for node in (whole, *whole["$defs"].values()))
    assert checked > 10


@pytest.mark.parametrize(
    "data",
    [
        with_kernel(),
        with_kernel(qemu={"memory": "2 GiB", "cpus": 4}, timeout={"boot": 90, "test": "1.5m"}),
        with_kernel(source={"oci": "example.org/kernels:6.1"}),
        {**with_kernel(), "payload": {"ebpf": None, "go": None, "binaries": ["a"]}},
        {
            **with_kernel(),
            "payload": {
                "binaries": [{"path": "a", "user": 1000, "memlock": "64K"}],
                "packages": {"internal/*": {"limits": {"as": "1G", "nofile": 3, "time": "5s"}}},
                "capabilities": ["CAP_BPF"],
                "memlock": "default",
            },
            "profiles": {"user": {"user": "nobody", "unprivileged_bpf": True}},
        },
        {**with_kernel(), "verify": {"objects": [{"path": "a.o", "set": {"x": 1}}]}},
        {**with_kernel(), "verify": {"max_insns": "80%", "limit": "10s", "attach": True}},
        {**with_kernel(), "verify": {"max_insns": 5000}},
        {**with_kernel(), "verify": {"loader": "cilium-ebpf"}},
        {**with_kernel(), "verify": {"loader": ["libbpf", "aya"]}},
        {
            **with_kernel(),
            "verify": {
                "objects": [
                    {"path": "a.o", "loader": "aya", "presets": {"small": {"map_sizes": {"m": 1}}}}
                ]
            },
        },
        {**with_kernel(), "expect": [{"program": "on_*", "reason": "known", "until": "6.1"}]},
        {**with_kernel(), "expect": [{"test": "TestA", "reason": "known", "outcome": "skipped"}]},
    ],
)
def test_schema_and_models_accept_the_same(data: object, tmp_path: Path) -> None:
    assert schema_accepts(data)
    assert models_accept(data, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kernels": {}},
        with_kernel(qemu={"memroy": "1G"}),
        with_kernel(qemu={"memory": "much"}),
        with_kernel(qemu={"cpus": 0}),
        with_kernel(timeout={"boot": "soon"}),
        with_kernel(timeout={"boot": 0}),
        with_kernel(source={}),
        with_kernel(source={"apt": {"suite": "x"}, "oci": "y"}),
        with_kernel(source={"apt": {}}),
        with_kernel(arch="riscv"),
        {"kernels": {"a b": KERNEL}},
        {**with_kernel(), "verify": {"objects": [{"set": {"x": 1}}]}},
        {**with_kernel(), "verify": {"max_insns": "120%"}},
        {**with_kernel(), "verify": {"loader": "bcc"}},
        {**with_kernel(), "verify": {"loader": []}},
        {**with_kernel(), "verify": {"objects": [{"path": "a.o", "presets": {"a b": {}}}]}},
        {**with_kernel(), "verify": {"objects": [{"path": "a.o", "presets": {"a": {"x": 1}}}]}},
        {**with_kernel(), "verify": {"objects": [{"path": "a.o", "variants": [["one"]]}]}},
        {**with_kernel(), "expect": [{"reason": "known"}]},
        {**with_kernel(), "expect": [{"program": "a", "test": "b", "reason": "known"}]},
        {**with_kernel(), "expect": [{"program": "a"}]},
    ],
)
def test_schema_and_models_refuse_the_same(data: object, tmp_path: Path) -> None:
    assert not schema_accepts(data)
    assert not models_accept(data, tmp_path)


@pytest.mark.parametrize(
    ("key", "type"),
    [
        ("accel", "`auto`, `kvm` or `tcg`"),
        ("ebpf", "path or `null`"),
        ("kernels", "mapping of mappings"),
        ("listed", "mapping of lists of strings"),
        ("set", "mapping, each value a string, a whole number, `true` or `false`"),
        ("sha256", "list, each item a string or `null`"),
        ("sha256", "string"),
    ],
)
def test_page_has_types_in_words(key: str, type: str) -> None:
    assert f"\n| `{key}` | {type} |" in reference.page()


def test_page_has_every_key_of_every_model() -> None:
    page = reference.page()
    for _, one in models_in(Config):
        for name, field in one.model_fields.items():
            assert f"| `{field.alias or name}` |" in page
            assert reference._description(one, name), f"{one.__name__}.{name} has no docstring"


def test_page_shows_defaults_as_they_are_written() -> None:
    page = reference.page()
    assert "| `memory` | size | `512M` |" in page
    assert "| `boot` | duration | `20s` |" in page
    assert "| `matrix` | list of strings or mapping | all kernels, without profiles, " in page


def test_the_task_names_the_files_that_are_out_of_date(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text((REPOSITORY / "tasks.py").read_text())
    (tmp_path / "kernels.yaml").write_text((REPOSITORY / "kernels.yaml").read_text())
    # All pages, as some are written from files that others name.
    left_out = shutil.ignore_patterns(".bpfmatrix", "__pycache__", "target", "*.png", "*.svg")
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs", ignore=left_out)
    for page in ("kernels-yaml.md", "source-tree.md"):
        (tmp_path / "docs" / page).unlink()
    (tmp_path / "src").symlink_to(REPOSITORY / "src")

    def invoke(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "invoke", "docs", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    missing = invoke("--check")
    assert missing.returncode == 1
    assert "kernels.schema.json, docs/kernels-yaml.md, docs/source-tree.md" in missing.stderr
    assert invoke().returncode == 0
    assert invoke("--check").returncode == 0
