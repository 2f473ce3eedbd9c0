"""Which parts run: by the command line, by kernels.yaml, or by what is declared."""

import dataclasses
from typing import Any

import pytest

from bpfmatrix.cli import options
from bpfmatrix.cli.run_choice import chosen
from bpfmatrix.cli.values import read
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError, UsageError

KERNELS = {"6.1": {"source": {"oci": "example/6.1"}}}
BOTH = {"verify": {"objects": [{"path": "x.o"}]}, "payload": {"binaries": ["t"]}}
OPTIONS = (options.ONLY, options.RUN, options.BINARY, options.TIMEOUT, options.ROOTFS)


def parts(
    project: Project, keys: dict[str, Any], typed: dict[str, Any], words: tuple[str, ...] = ()
) -> tuple[str, ...]:
    config = Config.model_validate({"kernels": KERNELS, **keys})
    values = read(OPTIONS, typed, words)
    return chosen(dataclasses.replace(project, config=config), values).parts


@pytest.mark.parametrize(
    ("includes", "typed", "words", "expected"),
    [
        (None, {}, (), ("verify", "tests")),
        (["tests"], {}, (), ("tests",)),
        (["verify"], {}, (), ("verify",)),
        (["tests", "verify"], {}, (), ("tests", "verify")),
        # The command line chooses tests.
        (None, {"run": "TestX"}, (), ("tests",)),
        (["verify"], {}, ("-test.short",), ("tests",)),
        # How tests are run chooses none.
        (None, {"timeout": "3s", "rootfs": "host"}, (), ("verify", "tests")),
        (["tests"], {"only": "verify"}, (), ("verify",)),
        (None, {"only": "tests"}, (), ("tests",)),
    ],
)
def test_what_runs(
    library_project: Project,
    includes: list[str] | None,
    typed: dict[str, str],
    words: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    keys = {**BOTH, **({"matrix": {"includes": includes}} if includes else {})}
    assert parts(library_project, keys, typed, words) == expected


def test_a_project_that_declares_nothing_has_nothing_to_run(library_project: Project) -> None:
    with pytest.raises(ConfigError, match="there is nothing to run"):
        parts(library_project, {}, {})


@pytest.mark.parametrize(
    ("typed", "words"), [({"run": "zzz"}, ()), ({"binary": ["kernels.yaml"]}, ()), ({}, ("-v",))]
)
def test_verify_alone_takes_no_choice_of_tests(
    library_project: Project,
    typed: dict[str, Any],
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(library_project.root)
    (library_project.root / "kernels.yaml").touch()
    with pytest.raises(UsageError, match="--only verify runs no tests"):
        parts(library_project, BOTH, {"only": "verify", **typed}, words)


def test_another_part_is_refused(library_project: Project) -> None:
    with pytest.raises(UsageError, match="--only programs: expected tests or verify"):
        parts(library_project, BOTH, {"only": "programs"})
