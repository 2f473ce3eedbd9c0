"""Reading kernels.yaml: every mistake is named by its line or its key."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config import kernels_yaml
from bpfmatrix.config.models import Config
from bpfmatrix.errors import ConfigError
from tests.tool import REPOSITORY

APT: dict[str, Any] = {"apt": {"suite": "bookworm-security"}}
MINIMAL: dict[str, Any] = {"kernels": {"6.1": {"source": APT}}}


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "kernels.yaml"
    path.write_text(text)
    return kernels_yaml.load(path)


def changed(path: str, value: Any) -> str:
    """Return a kernels.yaml in which one key has this value."""
    data: dict[str, Any] = {"kernels": {"6.1": {"source": copy.deepcopy(APT)}}}
    *parents, last = path.split("/")
    inner = data
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            changed("kernels/6.1/qemu/memroy", "1G"),
            'kernels.6.1.qemu.memroy: unknown key (did you mean "memory"?)',
        ),
        (changed("defaults/tiemout", {}), 'tiemout: unknown key (did you mean "timeout"?)'),
        (changed("payload", None), "payload: expected a mapping"),
        (changed("kernels", []), "kernels: expected a mapping"),
        (changed("kernel", {}), 'kernel: unknown key (did you mean "kernels"?)'),
        (changed("payload/go/modul", "x"), 'payload.go.modul: unknown key (did you mean "module"'),
        (changed("kernels/6.1/source/atp", {}), 'source.atp: unknown key (did you mean "apt"?)'),
        (
            changed("kernels/6.1/source/apt/siute", "x"),
            'kernels.6.1.source.apt.siute: unknown key (did you mean "suite"?)',
        ),
        (changed("zzzzzzzz", 1), "kernels.yaml: zzzzzzzz: unknown key"),
        ('{"kernels": {}}', "kernels.yaml: kernels: "),
        ("{}", "kernels.yaml: kernels: this key is required, as in "),
        ("", "kernels.yaml: "),
        ("- a\n- b\n", "kernels.yaml: "),
        (
            changed("matrix", ["6.1", "6.11"]),
            "matrix: no kernel '6.11' (did you mean \"6.1\"?)",
        ),
        (changed("kernels/6.1/source", {}), "source: expected exactly one of: apt, "),
        (
            changed("kernels/6.1/source", {**APT, "oci": "x"}),
            "kernels.6.1.source: expected exactly one of: apt, ",
        ),
        (
            changed("kernels/6.1/source", {"apt": None}),
            "kernels.6.1.source: expected exactly one of: apt, ",
        ),
        (changed("kernels/6.1", {}), "kernels.6.1.source: this key is required, as in "),
        (
            changed("kernels/6.1/source", {"oci": "[:::]/x"}),
            "kernels.6.1.source.oci: expected the name of an image, such as debian:12",
        ),
        (
            changed("registry", "ghcr.io/you/kernels:6.1"),
            "registry: expected a repository, such as registry.example/kernels, without a tag",
        ),
        (
            changed("kernels/a b", {"source": APT}),
            "kernels.a b: an id has only letters, digits",
        ),
        (
            changed("defaults/timeout/boot", "soon"),
            'defaults.timeout.boot: expected a duration such as "90s", "2m" or "500ms"',
        ),
        (changed("defaults/timeout/test", 0), "defaults.timeout.test: expected a duration above"),
        (changed("defaults/timeout/test", True), "defaults.timeout.test: expected a duration such"),
        (
            changed("defaults/qemu/memory", "much"),
            'defaults.qemu.memory: expected a size such as "512M" or "2G"',
        ),
        (changed("defaults/qemu/memory", 512), "defaults.qemu.memory: expected a size such as"),
        (changed("defaults/qemu/cpus", 0), "defaults.qemu.cpus: "),
        (changed("defaults/qemu/accel", "xen"), "defaults.qemu.accel: "),
        (changed("defaults/arch", "vax"), "defaults.arch: "),
        (changed("verify/max_insns", "0%"), 'verify.max_insns: expected a share such as "80%"'),
        (changed("verify/objets", []), 'verify.objets: unknown key (did you mean "objects"?)'),
        (changed("verify/objects", [{"pth": "a.o"}]), 'pth: unknown key (did you mean "path"?)'),
        (changed("expect", [{"program": "a"}]), "expect.0.reason: this key is required, as in "),
        (changed("expect", [{"reason": "a"}]), "expect.0: expected exactly one of: program, test"),
        (
            changed("expect", [{"test": "a", "object": "b", "reason": "c"}]),
            "expect.0: object: needs a `program`",
        ),
        (
            changed("expect", [{"test": "a", "loader": "aya", "reason": "c"}]),
            "expect.0: loader: needs a `program`",
        ),
        (
            changed("expect", [{"test": "a", "reason": "c", "until": "soon"}]),
            "expect.0: until: 'soon' is neither a date (2027-01-31) nor a release",
        ),
        (
            changed("expect", [{"test": "a", "reason": "c", "until": 6.1}]),
            "expect.0: until: YAML reads 6.1 as a number; write it in quotes",
        ),
        (
            changed("payload/env", {"A-B": "x"}),
            "payload: env: 'A-B' can't be the name of a",
        ),
        (changed("payload/env", {"A": "x\0"}), "payload: env: A: the value contains a NUL"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert sentence in caught.value.what
    assert caught.value.what.startswith("kernels.yaml: ")
    assert caught.value.exit_status == 2


def test_all_mistakes_are_named_in_one_error(tmp_path: Path) -> None:
    text = "defaults: {arhc: x86_64, qemu: {cpus: none}}\n" + yaml.safe_dump(MINIMAL)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert len(caught.value.what.splitlines()) == 2


def test_an_id_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="YAML reads this id as a number") as caught:
        load(tmp_path, "kernels: {5.10: {source: {oci: x}}}")
    assert '"5.10"' in caught.value.advice


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("null", "kernels.null: YAML reads this id as nothing"),
        ("~", "kernels.null: YAML reads this id as nothing"),
        ("2026-11-28", "kernels.2026-11-28: YAML reads this id as a date"),
        ("yes", "kernels.true: YAML reads this id as true or false"),
        ("7", "kernels.7: YAML reads this id as a number"),
        ("!!binary QQ==", "kernels.b'A': YAML reads this id as binary data"),
    ],
)
def test_an_id_that_yaml_reads_as_something_else_is_refused(
    tmp_path: Path, id: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"kernels: {{{id}: {{source: {{oci: x}}}}}}")
    assert caught.value.what == f"kernels.yaml: {said}"


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kernels.yaml"
    path.symlink_to("gone/kernels.yaml")
    with pytest.raises(ConfigError) as caught:
        kernels_yaml.load(path)
    assert caught.value.what == ("kernels.yaml: is a link to gone/kernels.yaml, which is not there")
    assert str(path) in caught.value.advice


def test_a_duplicate_key_is_rejected(tmp_path: Path) -> None:
    text = 'kernels:\n  "6.1": {source: {oci: a}}\n  "6.1": {source: {oci: b}}\n'
    with pytest.raises(ConfigError, match=r"line 3: duplicate key '6\.1'"):
        load(tmp_path, text)


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^kernels\.yaml: line 2: "):
        load(tmp_path, "kernels:\n  - ]\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kernels\.yaml: no such file in /"):
        kernels_yaml.load(tmp_path / "kernels.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00", b"a: \x07"])
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kernels.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^kernels\.yaml: "):
        kernels_yaml.load(path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        kernels_yaml.load(tmp_path)


YAML_PIECES = [
    *("kernels:", "defaults:", "payload:", "matrix:", "qemu:", "source:", "apt:", "suite:"),
    *('"6.1":', "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ": ", ", ", "? ", "<<: ", "&a "),
    *("*a", "!!int ", "!!set ", "!!binary ", "2001-99-99", "0x_", "1:99", "~", "x", "'", '"', "|"),
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(YAML_PIECES)).map("".join)))
def test_any_text_is_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-kernels.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(kernels_yaml.load(path), Config)
    except ConfigError as error:
        assert error.what.startswith("any-kernels.yaml: ")  # noqa: PT017 - most are right


@pytest.mark.parametrize(
    "text",
    ["a: 2001-99-99", "a: 0x_", "? [a]\n: b", "a: !!binary é", "a: !!x y", "[" * 3000, "a: !!int"],
)
def test_yaml_on_which_pyyaml_raises_other_errors_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^kernels\.yaml: "):
        load(tmp_path, text)


def test_the_file_of_this_repository_is_valid() -> None:
    loaded = kernels_yaml.load(REPOSITORY / "kernels.yaml")
    assert {"5.10", "6.1", "6.12", "6.18", "7.3"} <= set(loaded.matrix_ids)
