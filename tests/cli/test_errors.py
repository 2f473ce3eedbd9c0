"""The top of every command: what becomes of what it raises."""

import errno
import os
from collections.abc import Callable

import pytest

from bpfmatrix.cli.errors import exit_status_of, exit_with_message
from bpfmatrix.errors import BpfmatrixError, UsageError


def raising(error: BaseException) -> Callable[[], int | None]:
    def command() -> int | None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BpfmatrixError("what", "to do"), 1, "error: what\n       to do\n"),
        (UsageError("what"), 2, "error: what\n"),
        (OSError(errno.ENOSPC, "Full", "/x"), 1, "error: /x can't be written: Full\n"),
        (BpfmatrixError("a\x1b[2Jb\n::error::c"), 1, "error: ab\n: :error::c\n"),
        (BpfmatrixError("a\udcffb"), 1, "error: a\ufffdb\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
def test_an_error_is_its_sentences_and_a_status(
    error: Exception, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status_of(raising(error)) == status
    with pytest.raises(SystemExit) as caught, exit_with_message():
        raise error
    assert caught.value.code == status
    shown = capsys.readouterr().err
    assert shown == 2 * shown[: len(shown) // 2]
    assert shown.startswith(said)


@pytest.mark.parametrize("error", [ZeroDivisionError(), FileNotFoundError(2, "no", "x")])
def test_a_mistake_is_raised_with_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        exit_status_of(raising(error))
    with pytest.raises(type(error)), exit_with_message():
        raise error


def test_ctrl_c_stays_ctrl_c_whatever_fails_while_it_ends_the_command() -> None:
    def command() -> int | None:
        try:
            raise KeyboardInterrupt
        finally:
            try:
                os.stat("/no/such/file")  # noqa: PTH116 - an error that is handled
            except OSError:
                raise BpfmatrixError("the machine could not be ended") from None

    with pytest.raises(KeyboardInterrupt):
        exit_status_of(command)


def test_the_status_of_a_command_is_kept() -> None:
    assert exit_status_of(lambda: None) == 0
    assert exit_status_of(lambda: 3) == 3
