"""Command lines of `bpfmatrix exec`, as the keeper reads them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bpfmatrix.cli.keeper import CommandLines
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.exec.keeper import Wanted
from bpfmatrix.exec.messages import Call

KERNELS = 'kernels: {"6.1": {source: {apt: {suite: bookworm-security}}}}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kernels.yaml").write_text(KERNELS)
    below = tmp_path / "package"
    below.mkdir()
    monkeypatch.chdir(below)
    return below


def wanted(words: Sequence[str], lines: CommandLines | None = None) -> Wanted:
    return (lines or CommandLines()).read(Call(tuple(words), str(Path.cwd()), {}))


@pytest.mark.parametrize(
    "words",
    [
        ("--kernel", "6.1", "./x.test", "-test.v", "--kernel", "7"),
        ("--kernel=6.1", "./x.test", "-test.v", "--kernel", "7"),
        ("-k", "6.1", "--", "./x.test", "-test.v", "--kernel", "7"),
    ],
)
def test_the_command_begins_at_the_first_word_that_is_no_option(
    folder: Path, words: tuple[str, ...]
) -> None:
    found = wanted(words)
    assert found.kernel == "6.1"
    assert found.command == ("./x.test", "-test.v", "--kernel", "7")
    assert found.project.root == folder.parent
    assert found.options.files.is_host
    assert found.options.files.folder == folder


def test_options_mean_what_they_mean_elsewhere(folder: Path) -> None:
    shared = [*("--share", ".."), *("--share", ".:rw")]
    variables = ["--env", "A", "--env=B=--cold"]
    found = wanted(["-k", "6.1", *shared, *variables, "--cold", "--net", "user", "--", "--"])
    assert [(one.path, one.writable) for one in found.options.files.shares] == [
        (folder.parent, False),
        (folder, True),
    ]
    assert found.variables == ("A", "B=--cold")
    assert found.options.cold
    assert found.options.network
    assert found.command == ("--",)


def test_a_guest_may_have_no_files_of_the_host_but_those_of_the_command(folder: Path) -> None:
    files = wanted(["-k", "6.1", "--rootfs", "none", "./x"]).options.files
    assert not files.has_root
    assert [share.path for share in files.shares] == [folder.parent]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kernle", "6.1", "x"], r'--kernle: no such option \(did you mean "--kernel"\?\)'),
        (["--kernel"], "--kernel needs a value: The id of a kernel"),
        (["--kernel", "6.1"], "there is no command"),
        (["--kernel", "6.1", "--"], "there is no command"),
        (["x"], "no kernel is named"),
        (["-k", "6.1", "--env", "1=2", "x"], "--env 1=2: expected NAME or NAME=VALUE"),
        (["-k", "6.1", "--share", "missing", "x"], "--share missing: no such folder"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wanted(words)


def test_kernels_yaml_is_read_again_when_it_changes(folder: Path) -> None:
    lines, words = CommandLines(), ["-k", "6.1", "x"]
    first = wanted(words, lines)
    assert wanted(words, lines).project is first.project
    (folder.parent / "kernels.yaml").write_text(KERNELS + "# changed\n")
    assert wanted(words, lines).project is not first.project
    (folder.parent / "kernels.yaml").unlink()
    with pytest.raises(BpfmatrixError, match=r"kernels.yaml: no such file"):
        wanted(words, lines)
