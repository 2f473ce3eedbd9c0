"""What is said about mistakes in kernels.yaml: our own words, and an example that is right."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core._pydantic_core import list_all_errors

from bpfmatrix.config import kernels_yaml
from bpfmatrix.config.examples import EXAMPLES, MINIMAL, example_of
from bpfmatrix.config.models import Config
from bpfmatrix.config.yaml_file import models_in, validated
from bpfmatrix.errors import ConfigError

# A valid value of each key that a model can't do without, so that nothing else is wrong.
SOURCE = {"apt": {"suite": "bookworm-security"}}
REQUIRED: dict[str, dict[str, Any]] = {
    "kernels.<id>": {"source": SOURCE},
    "kernels.<id>.source.apt": {"suite": "x"},
    "kernels.<id>.source.dnf": {"repository": "https://a.example/x", "key": "k.asc"},
    "kernels.<id>.source.package": {"files": ["a.deb"]},
    "kernels.<id>.source.build": {"version": "6.1"},
    "archives": {"debian": "http://a.example/debian"},
    "payload.binaries": {"path": "x"},
    "verify.objects": {"path": "x"},
    "expect": {"test": "a", "reason": "b"},
}
LISTS = ("payload.binaries", "verify.objects", "expect")
KEYS = [
    (path, model, field.alias or name)
    for path, model in models_in(Config)
    for name, field in model.model_fields.items()
]
VALUES: list[Any] = [
    *(None, True, 5, -1, 5.5, 1 << 70, "", "x y\0", "*", [], ["x"], [None], [[]], [5.1]),
    *({}, {"a": 1}, {"a": {}}, {"a": None}, {1: 2}, {True: "x"}, date(2027, 1, 31), b"\xff"),
    *([{"a": 1}], [{}], {"a": ["x", 5]}, {"a": []}, {"a": {"b": "c"}}, {"x/../y": "z"}),
]


def pydantic_phrases() -> list[str]:
    """Return the beginnings of pydantic's sentences that are long enough to be told from ours."""
    templates = (error["message_template_python"] for error in list_all_errors())
    begins = (re.split(r"[{]", text)[0].strip() for text in templates)
    return sorted({begin for begin in begins if len(begin) > 12})


FOREIGN = re.compile(
    "|".join(map(re.escape, pydantic_phrases()))
    + r"|Input should|instance of|valid dictionary|union_tag|literal\[|function-|list\[|dict\["
    r"|constrained-|Extra inputs|Field required|\[type=|Traceback|NoneType|<class"
)


def file_with(path: str, key: str, value: Any) -> dict[str, Any]:
    """Return the data of a kernels.yaml in which one key has a value, and the rest is right."""
    data: dict[str, Any] = {"kernels": {"6.1": {"source": dict(SOURCE)}}}
    inner, at = data, ""
    for part in path.split(".") if path else ():
        at = f"{at}.{part}".lstrip(".")
        name = {"<id>": "6.1", "<name>": "a"}.get(part, part)
        if at == "kernels.<id>.source":
            inner["source"] = {}
        if at in LISTS:
            inner[name] = [dict(REQUIRED.get(at, {}))]
            inner = inner[name][0]
            continue
        inner.setdefault(name, {})
        inner = inner[name]
        for one, needed in REQUIRED.get(at, {}).items():
            inner.setdefault(one, needed)
    inner[key] = value
    return data


def said_about(data: Any) -> str:
    """Return what is said about the data of a kernels.yaml; nothing if it is right."""
    try:
        validated("kernels.yaml", data, Config)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("path", "key"), [(path, key) for path, _, key in KEYS])
def test_no_wrong_value_of_a_key_makes_pydantic_speak(path: str, key: str) -> None:
    said = [text for value in VALUES if (text := said_about(file_with(path, key, value)))]
    assert said, "no value is refused"
    for text in said:
        assert not FOREIGN.search(text), text
        assert all(line.startswith("kernels.yaml: ") for line in text.splitlines()[:1])


def test_the_phrases_of_pydantic_are_known() -> None:
    assert len(pydantic_phrases()) > 40
    assert FOREIGN.search("kernels.yaml: a: Input should be a valid string")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=6,
)


@given(st.sampled_from(KEYS), ANY)
def test_no_value_at_all_makes_pydantic_speak(
    place: tuple[str, type[BaseModel], str], value: Any
) -> None:
    data = file_with(place[0], place[2], value)
    said = said_about(data)
    # What the user wrote is repeated, and may be anything.
    assert not FOREIGN.search(re.sub(r'"[^"]*"|\'[^\']*\'', "", said)) or FOREIGN.search(
        repr(value)
    )


@pytest.mark.parametrize(("path", "model", "key"), KEYS)
def test_the_example_of_each_key_is_right(path: str, model: type[BaseModel], key: str) -> None:
    example = yaml.safe_load(example_of(model, key))
    assert list(example) == [key]
    data = file_with(path, key, example[key])
    # These need others beside them.
    if key in ("mirror", "keyring") and path.endswith(".apt"):
        data["kernels"]["6.1"]["source"]["apt"] |= {
            "mirror": "http://a.example",
            "keyring": "k.gpg",
            "package": "linux-image-6.8.*-generic",
        }
    if key == "sha256" and path.endswith(".package"):
        data["kernels"]["6.1"]["source"]["package"]["files"] = ["a.deb"]
    if path == "expect" and key in ("program", "warning", "object", "loader"):
        data["expect"][0].pop("test")
        data["expect"][0].setdefault("program" if key != "warning" else key, "a")
    if key in ("matrix", "pre_push") or path == "matrix":
        data["kernels"]["5.10"] = {"source": dict(SOURCE)}
    assert said_about(data) == ""


def test_every_example_belongs_to_a_key() -> None:
    for model, examples in EXAMPLES.items():
        known = {field.alias or name for name, field in model.model_fields.items()}
        assert set(examples) <= known, model


def test_the_smallest_file_is_right() -> None:
    assert said_about(yaml.safe_load(MINIMAL)) == ""


APT = 'kernels: {"6.1": {source: {apt: {suite: x}}}}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "kernels.yaml: is empty; expected a mapping, as in kernels: {"),
        ("# a comment\n", "kernels.yaml: is empty; "),
        ("- a\n", "kernels.yaml: expected a mapping, as in kernels: {"),
        ("text", 'found "text"'),
        ("{apt: bookworm}", "apt: unknown key; it belongs below `kernels.<id>.source`"),
        (
            'kernels: {"6.1": {source: {apt: bookworm}}}',
            "kernels.6.1.source.apt: expected a mapping, as in apt: {suite: bookworm-security}; "
            'found "bookworm"',
        ),
        (
            APT + "matrix: [6.1]",
            'kernels.yaml: matrix.0: expected a string, as in matrix: ["5.10", "6.1"]',
        ),
        (APT + "matrix: [6.1]", "write it in quotes"),
        (APT + "matrix: []", "kernels.yaml: matrix: expected at least 1 entry, as in matrix: "),
        (APT + "matrix: {kernels: []}", "matrix.kernels: expected at least 1 entry, as in kernels"),
        (APT + "matrix:", "or a mapping; found nothing"),
        (APT + 'matrix: ["6.1", "6.1"]', "matrix: '6.1' is listed 2 times"),
        (APT + 'pre_push: ["6.1", "6.1"]', "pre_push: '6.1' is listed 2 times"),
        (APT + "pre_push: []", "pre_push: expected at least 1 entry, as in pre_push: "),
        (APT + "defaults: {qemu: {cpus: 0}}", "cpus: expected 1 or more, as in cpus: 2; found"),
        (
            'kernels: {"6.1": {source: {apt: {suite: "a b"}}}}',
            "suite: expected letters, digits and . / + -, with a letter or a digit first, as in",
        ),
        (APT + "defaults: {qemu: {accel: kmv}}", '(did you mean "kvm"?)'),
        (APT + "defaults: {modules: 5}", "expected a list of strings or `all`, as in modules: ["),
        (APT + "verify: {loader: [bcc]}", "verify.loader: expected `libbpf`, `cilium-ebpf`, "),
        (APT + "on: 1", "a key must be a text, not true; write it in quotes"),
        ("kernels:\n\t6.1: x\n", "line 2: a tab, which YAML does not take as indentation"),
        ("kernels: [\n", "no valid YAML"),
        (
            "a: b: c",
            "kernels.yaml: line 1: no valid YAML (mapping values are not allowed here): a:",
        ),
        ("a: &a [*a]", "an alias (*) stands for something that it is in itself"),
    ],
)
def test_what_is_expected_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "kernels.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        kernels_yaml.load(tmp_path / "kernels.yaml")
    assert words in str(caught.value)
    assert caught.value.exit_status == 2


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "kernels.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"aliases \(\*\) stand for .* values, which is too many"):
        kernels_yaml.load(tmp_path / "kernels.yaml")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "kernels.yaml").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(ConfigError, match="has 100 MiB, and at most 1 are read"):
        kernels_yaml.load(tmp_path / "kernels.yaml")


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        *(("arm64", "aarch64"), ("aarch64", "aarch64"), ("amd64", "x86_64"), ("x64", "x86_64")),
        *(("X86-64", "x86_64"), ("ppc64el", "ppc64le"), ("ARM64", "aarch64")),
    ],
)
def test_other_names_of_architectures_are_understood(
    tmp_path: Path, name: str, architecture: str
) -> None:
    (tmp_path / "kernels.yaml").write_text(APT + f"defaults: {{arch: {name}}}")
    assert kernels_yaml.load(tmp_path / "kernels.yaml").kernel("6.1").arch == architecture


def test_a_similar_architecture_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "kernels.yaml").write_text(APT + "defaults: {arch: arm46}")
    with pytest.raises(ConfigError, match=r"arch: expected x86_64 or .*did you mean \"arm64\""):
        kernels_yaml.load(tmp_path / "kernels.yaml")


def test_the_file_may_be_called_kernels_yml(tmp_path: Path) -> None:
    assert not kernels_yaml.exists_in(tmp_path)
    assert kernels_yaml.place_in(tmp_path).name == "kernels.yaml"
    (tmp_path / "kernels.yml").write_text(APT)
    assert kernels_yaml.exists_in(tmp_path)
    assert kernels_yaml.load(kernels_yaml.place_in(tmp_path)).matrix_ids == ["6.1"]
    (tmp_path / "kernels.yaml").write_text(APT)
    with pytest.raises(ConfigError, match=r"two files, kernels\.yaml and kernels\.yml, in "):
        kernels_yaml.place_in(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "kernels.yaml")
    with pytest.raises(ConfigError, match="is no regular file"):
        kernels_yaml.load(tmp_path / "kernels.yaml")
