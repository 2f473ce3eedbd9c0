from pathlib import Path

import pytest

from bpfmatrix.cli.options import kernel_ids, options, parse, reported
from bpfmatrix.config.models import Config
from bpfmatrix.errors import BpfmatrixError, ConfigError, PayloadError, UsageError

IDS = ["5.10", "6.1", "6.12", "6.18", "7.3"]
CONFIG = Config.model_validate(
    {
        "kernels": {id: {"source": {"apt": {"suite": "x"}}} for id in IDS},
        "matrix": ["6.1", "7.3"],
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
    ],
)
def test_kernels_by_pattern(patterns: str | None, ids: list[str]) -> None:
    assert kernel_ids(CONFIG, patterns) == ids


@pytest.mark.parametrize("patterns", ["5.1", "6.1,nothing", "", "6.1,"])
def test_a_pattern_without_a_kernel_is_refused(patterns: str) -> None:
    with pytest.raises(UsageError, match=r"no such kernel in kernels\.yaml") as caught:
        kernel_ids(CONFIG, patterns)
    assert caught.value.advice == "It has: 5.10, 6.1, 6.12, 6.18, 7.3."


def test_a_hint_for_a_kernel_that_is_nearly_there() -> None:
    with pytest.raises(UsageError, match=r'did you mean "5\.10"'):
        kernel_ids(CONFIG, "5.1")


def test_words_of_a_session() -> None:
    words = parse(
        "kernel-6.1",
        ["--run", "A", "--binary", "x", "--binary", "y", "--timeout", "2m", "--", "-v", "a b"],
    )
    assert (words.run, words.binary, words.timeout) == ("A", ["x", "y"], "2m")
    assert words.arguments == ["-v", "a b"]
    matrix = parse("matrix", ["--kernels", "6.*", "--jobs", "3"])
    assert (matrix.kernels, matrix.jobs) == ("6.*", 3)


@pytest.mark.parametrize("words", [["--nonsense"], ["--run"], ["--kernels", "6.1"]])
def test_words_that_are_none_end_with_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("kernel-6.1", words)
    assert caught.value.code == 2
    assert "nox -s kernel-6.1 --" in capsys.readouterr().err


def test_options_are_checked(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    asked = options("A", [str(tmp_path / "x")], "1.5m", ["-v"])
    assert (asked.run, asked.binaries, asked.test_seconds) == ("A", (tmp_path / "x",), 90)
    assert asked.arguments == ("-v",)
    with pytest.raises(UsageError, match=r"--timeout soon: expected a duration such as"):
        options(None, [], "soon", [])
    with pytest.raises(UsageError, match=r"--binary .*/nothing: no such file"):
        options(None, [str(tmp_path / "nothing")], None, [])


@pytest.mark.parametrize(
    ("error", "status"),
    [(BpfmatrixError("what", "do"), 1), (PayloadError("what"), 1), (ConfigError("what", "do"), 2)],
)
def test_an_error_is_its_sentences_and_its_status(
    error: BpfmatrixError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, reported():
        raise error
    assert caught.value.code == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: what\n" + ("       do\n" if error.advice else "")


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), reported():
        raise ZeroDivisionError
