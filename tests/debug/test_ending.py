"""The one sentence with which a session in gdb ends."""

import signal

import pytest

from bpfmatrix.debug.ending import NOT_BEGUN, BatchReport, failure_of_gdb

REPORT = BatchReport()


def sentence(
    status: int = 0,
    batch: tuple[str, ...] | None = ("backtrace 3", "list"),
    *,
    stopped: bool = True,
    report: BatchReport | None = REPORT,
    ended: str = "",
) -> str:
    """Return the sentence; an empty text if gdb did what it was to do."""
    failure = failure_of_gdb(
        status,
        ("do_check",),
        batch,
        stopped=stopped,
        report=report,
        ended=ended,
        console="console.log",
    )
    return failure.what if failure else ""


@pytest.mark.parametrize("batch", [None, (), ("backtrace",)])
def test_a_gdb_that_did_its_work_is_no_failure(batch: tuple[str, ...] | None) -> None:
    assert sentence(batch=batch) == ""
    # The commands of a user's file may set another exit status.
    assert sentence(3, batch=batch) == ""


def test_a_person_at_the_prompt_needs_no_stop() -> None:
    assert sentence(batch=None, stopped=False, report=None, ended="the tests ended") == ""


def test_without_a_stop_no_command_is_run() -> None:
    said = "no breakpoint was reached (do_check): the tests ended"
    done = sentence(1, stopped=False, report=None, ended="the tests ended")
    assert done == f"{said}; the commands of --batch were not run"
    assert sentence(1, (), stopped=False, report=None, ended="the tests ended") == said


def test_a_command_that_ends_gdb_leaves_no_report() -> None:
    assert sentence(report=None) == ""


def test_commands_that_failed_are_named_with_those_that_were_not_run() -> None:
    failed = (("foo", 'Undefined command: "foo".'), ("print x", 'No symbol "x".'))
    report = BatchReport(failed, ("list", "backtrace"))
    assert sentence(1, report=report) == (
        '--batch: gdb could not run `foo`: Undefined command: "foo"; `print x`: No symbol "x", '
        "and there was no stopped guest any more; not run: `list; backtrace`"
    )
    assert sentence(1, report=BatchReport(left=("list",))) == (
        "--batch: there was no stopped guest any more; not run: `list`"
    )


@pytest.mark.parametrize("batch", [None, ("backtrace",)])
def test_a_gdb_that_was_killed_is_told_by_its_signal(batch: tuple[str, ...] | None) -> None:
    assert sentence(-signal.SIGKILL, batch) == "gdb was ended by SIGKILL"
    assert sentence(-35, batch) == "gdb was ended by signal 35"


@pytest.mark.parametrize("batch", [None, ("backtrace",)])
def test_a_gdb_that_did_not_connect(batch: tuple[str, ...] | None) -> None:
    assert sentence(NOT_BEGUN, batch, stopped=False).startswith("gdb did not connect to the guest")
