"""Settings of tests in kernels.yaml: how they are written, which of them wins, and profiles."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config import kernels_yaml
from bpfmatrix.config.models import Config
from bpfmatrix.config.settings import Settings, matching_settings, merged
from bpfmatrix.config.value_types import CAPABILITIES
from bpfmatrix.errors import ConfigError, UsageError

KERNELS = {id: {"source": {"apt": {"suite": "x"}}} for id in ("5.10", "6.1")}


def read(tmp_path: Path, **keys: Any) -> Config:
    path = tmp_path / "kernels.yaml"
    path.write_text(yaml.safe_dump({"kernels": KERNELS, **keys}))
    return kernels_yaml.load(path)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"user": "a b"}, "payload.user: expected the name or the number of a user"),
        ({"user": 1.5}, "payload.user: expected the name or the number of a user"),
        ({"user": "4294967295"}, "payload.user: expected the name of a user, or a number below"),
        ({"user": "0x10"}, "payload.user: expected the name of a user, or a number below"),
        ({"capabilities": ["CAP_BPFF"]}, 'is no capability, such as CAP_BPF (did you mean "CAP_BP'),
        ({"memlock": "lots"}, 'payload.memlock: expected "default", "unlimited", or a size'),
        ({"memlock": True}, 'payload.memlock: expected "default", "unlimited", or a size'),
        ({"limits": {"nofile": "many"}}, "payload.limits.nofile: expected a number, a size such"),
        ({"limits": {"nofle": 1}}, 'payload.limits.nofle: unknown key (did you mean "nofile"?)'),
        ({"limits": {"address_space": 1}}, "payload.limits.address_space: unknown key"),
        ({"limits": {"time": 0}}, "payload.limits.time: expected a duration above zero"),
        ({"format": "tapp"}, "payload.format: expected `go`, `tap`"),
        ({"binaries": [{"path": "x", "usr": 1}]}, 'binaries.0.usr: unknown key (did you mean "us'),
        (
            {"binaries": [{"user": 1}]},
            "payload.binaries.0.path: this key is required, as in path: ",
        ),
        ({"packages": {"a": {"env": {"1": "x"}}}}, "can't be the name of a variable"),
        ({"lockdown": "full"}, "payload.lockdown: expected `none`, `integrity`"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, payload: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, payload=payload)
    assert words in caught.value.what
    assert "\n" not in caught.value.what


def test_settings_are_read_as_they_are_written(tmp_path: Path) -> None:
    payload = read(
        tmp_path,
        payload={
            "user": 1000,
            "capabilities": ["bpf", "CAP_PERFMON"],
            "memlock": "64K",
            "limits": {"time": "5m", "as": "1G", "nofile": 1024, "core": "unlimited"},
            "binaries": ["a", {"path": "b", "memlock": "default", "format": "tap"}],
        },
    ).payload
    assert (payload.user, payload.memlock) == ("1000", 64 << 10)
    assert payload.capabilities == ["CAP_BPF", "CAP_PERFMON"]
    assert payload.limits.time == 300
    assert payload.limits.resources == {"as": 1 << 30, "nofile": 1024, "core": -1}
    first, second = payload.binaries
    assert (first.path, first.model_fields_set) == (Path("a"), {"path"})
    assert (second.path, second.memlock, second.format) == (Path("b"), None, "tap")
    # `default` is a setting too, which wins over that of the payload.
    assert merged(payload, second).memlock is None
    assert merged(payload, first).memlock == 64 << 10


def test_capabilities_have_the_numbers_of_the_kernel() -> None:
    numbers = {"CAP_CHOWN": 0, "CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_SETFCAP": 31}
    numbers |= {"CAP_PERFMON": 38, "CAP_BPF": 39, "CAP_CHECKPOINT_RESTORE": 40}
    assert {name: CAPABILITIES.index(name) for name in numbers} == numbers
    assert len(set(CAPABILITIES)) == len(CAPABILITIES) == 41


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "user": st.sampled_from(["nobody", 1, None]),
    "memlock": st.sampled_from(["default", "unlimited", "64K"]),
    "capabilities": st.sampled_from([[], ["CAP_BPF"], None]),
    "args": st.sampled_from([[], ["-v"]]),
    "env": st.dictionaries(st.sampled_from("ABC"), st.sampled_from("12")),
    "limits": st.dictionaries(st.sampled_from(["nofile", "as", "time"]), st.integers(1, 3)),
}
LAYER = st.fixed_dictionaries({}, optional=VALUES).map(Settings.model_validate)


@given(st.lists(LAYER, max_size=4))
def test_the_last_layer_that_has_a_key_wins(layers: list[Settings]) -> None:
    found = merged(*layers)
    assert found.model_fields_set == {name for each in layers for name in each.model_fields_set}
    for name in ("user", "memlock", "capabilities", "args"):
        given = [getattr(each, name) for each in layers if name in each.model_fields_set]
        assert getattr(found, name) == (given[-1] if given else getattr(Settings(), name))
    env: dict[str, str] = {}
    for each in layers:
        env |= each.env
    assert found.env == env
    for name in ("nofile", "address_space", "time"):
        given = [
            getattr(each.limits, name) for each in layers if name in each.limits.model_fields_set
        ]
        assert getattr(found.limits, name) == (given[-1] if given else None)


@given(LAYER, LAYER, LAYER)
def test_it_does_not_matter_which_layers_are_merged_first(
    one: Settings, two: Settings, three: Settings
) -> None:
    assert (
        merged(merged(one, two), three)
        == merged(one, merged(two, three))
        == merged(one, two, three)
    )
    assert merged(one) == one
    assert merged(one, Settings()) == one


def test_the_more_specific_pattern_of_a_package_wins() -> None:
    patterned = {
        "example.com/x/internal/btf": Settings(user="exact"),
        "internal/*": Settings(user="folder", args=["-v"]),
        "*": Settings(user="all", folder=Path("p")),
        "btf": Settings(user="base"),
    }

    def of(name: str) -> Settings:
        return merged(*matching_settings(name, patterned))

    assert of("example.com/x/internal/btf").user == "exact"
    assert of("example.com/x/internal/btf").args == ["-v"]
    assert of("example.com/x/internal/sys").user == "folder"
    assert of("example.com/x/btf").user == "base"
    assert of("example.com/x/notbtf").user == "all"
    assert of("example.com/x/notbtf").folder == Path("p")


PROFILES = {"user": {"user": "nobody", "lockdown": "integrity"}, "token": {"bpf_token": True}}


def test_an_id_may_name_a_profile(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        payload={"user": "root", "unprivileged_bpf": True, "lockdown": "none"},
        profiles=PROFILES,
        matrix=["6.1", "6.1@user"],
    )
    plain, profiled = config.kernel("6.1"), config.kernel("6.1@user")
    assert (profiled.id, profiled.plain.id, profiled.profile.user) == ("6.1@user", "6.1", "nobody")
    assert profiled.source == plain.source
    assert (plain.privileges.lockdown, profiled.privileges.lockdown) == ("none", "integrity")
    assert profiled.privileges.unprivileged_bpf is True
    assert config.matrix_ids == ["6.1", "6.1@user"]
    assert [config.has(id) for id in ("6.1@user", "6.1@", "6.2@user")] == [True, False, False]


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("6.1@usr", "no profile 'usr' in kernels.yaml (did you mean \"user\"?)"),
        ("6.1@", "no profile '' in kernels.yaml"),
        ("6.2@user", "no kernel '6.2' in kernels.yaml"),
    ],
)
def test_an_unknown_profile_is_named(tmp_path: Path, id: str, words: str) -> None:
    config = read(tmp_path, profiles=PROFILES)
    with pytest.raises(UsageError) as caught:
        config.kernel(id)
    assert words in caught.value.what
    assert caught.value.advice.startswith("It has: ")


def test_the_matrix_names_only_known_profiles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"matrix: 6\.1@usr: no profile 'usr' \(did you mean"):
        read(tmp_path, profiles=PROFILES, matrix=["6.1@usr"])
    with pytest.raises(ConfigError, match="profiles: 'a@b' is no name"):
        read(tmp_path, profiles={"a@b": {}})


def test_what_is_expected_of_a_kernel_is_expected_with_each_profile(tmp_path: Path) -> None:
    expect = [
        {"test": name, "reason": "known", "kernels": [pattern]}
        for name, pattern in (("A", "6.1"), ("B", "6.1@user"), ("C", "*@token"), ("D", "5.*"))
    ]
    config = read(tmp_path, profiles=PROFILES, expect=expect)

    def expected(id: str) -> list[str | None]:
        return [one.test for one in config.kernel(id).expect]

    assert expected("6.1") == ["A"]
    assert expected("6.1@user") == ["A", "B"]
    assert expected("5.10@token") == ["C", "D"]
