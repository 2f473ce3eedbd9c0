"""Kernels by id and pattern: --kernels."""

import pytest

from bpfmatrix.cli import options
from bpfmatrix.cli.kernel_choice import kernel_ids, with_profiles
from bpfmatrix.cli.values import Values
from bpfmatrix.config.models import Config
from bpfmatrix.errors import UsageError

IDS = ["5.10", "6.1", "6.12", "6.18", "7.3"]
CONFIG = Config.model_validate(
    {
        "kernels": {id: {"source": {"apt": {"suite": "x"}}} for id in IDS},
        "matrix": ["6.1", "7.3"],
        "profiles": {"user": {"user": "nobody"}, "token": {"bpf_token": True}},
    }
)


@pytest.mark.parametrize(
    ("patterns", "ids"),
    [
        (None, ["6.1", "7.3"]),
        ("5.10", ["5.10"]),
        ("6.*", ["6.1", "6.12", "6.18"]),
        ("7.3, 6.1?,7.3", ["7.3", "6.12", "6.18"]),
        ("*", IDS),
        ("6.1@user,7.*@*", ["6.1@user", "7.3@user", "7.3@token"]),
    ],
)
def test_kernels_by_pattern(patterns: str | None, ids: list[str]) -> None:
    assert kernel_ids(CONFIG, patterns, CONFIG.matrix_ids) == ids


@pytest.mark.parametrize("patterns", ["5.1", "6.1,nothing", "", "6.1,", "6.1@", "6.1@usr"])
def test_a_pattern_without_a_kernel_is_refused(patterns: str) -> None:
    with pytest.raises(UsageError, match=r"no such kernel in kernels\.yaml") as caught:
        kernel_ids(CONFIG, patterns, [])
    assert caught.value.advice == "It has: 5.10, 6.1, 6.12, 6.18, 7.3."


def test_a_typo_in_a_kernels_id_has_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r'did you mean "5\.10"'):
        kernel_ids(CONFIG, "5.1", [])


def profiled(ids: list[str], *names: str) -> list[str]:
    return with_profiles(CONFIG, ids, Values({options.PROFILE.name: names}))


def test_each_kernel_is_run_with_each_profile() -> None:
    assert profiled(["6.1"]) == ["6.1"]
    ids = profiled(["6.1", "7.3"], "user", "token", "user")
    assert ids == ["6.1@user", "6.1@token", "7.3@user", "7.3@token"]


@pytest.mark.parametrize(
    ("ids", "name", "words"),
    [
        (["6.1"], "usr", r"no profile 'usr' in kernels\.yaml \(did you mean \"user\"\?\)"),
        (["6.1@token"], "user", r"--profile user: 6\.1@token names a profile already"),
    ],
)
def test_a_wrong_profile_is_refused(ids: list[str], name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        profiled(ids, name)
