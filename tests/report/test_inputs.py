"""Results read from files and folders, and the logs beside them."""

import json
from pathlib import Path

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.report import inputs
from bpfmatrix.report.logs import read_log
from bpfmatrix.report.model import Kind
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult, Verification

RUN = KernelRun(
    "6.1",
    Outcome.PASSED,
    tests=(TestResult("t", "a", Outcome.PASSED),),
    console=".bpfmatrix/results/6.1/console.log",
)
VERIFIED = Verification(
    "6.1", Outcome.PASSED, programs=(ProgramResult("a.o", "p", Outcome.PASSED),)
)


def artifact(folder: Path) -> Path:
    """Write results and a log as CI uploads them; return the folder."""
    files.write(RUN, folder / "results/6.1.json")
    files.write(VERIFIED, folder / "verify/6.1.json")
    (folder / "results/6.1").mkdir()
    (folder / "results/6.1/console.log").write_text("booting")
    return folder


def test_results_are_found_in_all_subfolders(tmp_path: Path) -> None:
    found = inputs.read([artifact(tmp_path / "of/ci")])
    assert [result.kind for result in found] == [Kind.TEST, Kind.PROGRAM]
    assert [result.run for result in found] == [RUN, VERIFIED]


def test_other_json_files_in_a_folder_are_ignored(tmp_path: Path) -> None:
    artifact(tmp_path)
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    assert len(inputs.read([tmp_path])) == 2


def test_logs_are_read_from_beside_their_result(tmp_path: Path) -> None:
    [run, _] = inputs.read([artifact(tmp_path)])
    assert read_log(run, RUN.console, 100) == b"booting"
    assert read_log(run, ".bpfmatrix/results/6.1/gone.log", 100) is None


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "a/b//etc/passwd",
        ".bpfmatrix/results/../../secret",
        ".bpfmatrix/results/6.1/../../../secret",
        "../secret",
        "secret",
        "",
        ".bpfmatrix/results/6.1/link",
        ".bpfmatrix/results/6.1/loop",
        ".bpfmatrix/results/6.1",
        "a/b/\0",
        "a/b/" + "x" * 5000,
    ],
)
def test_a_result_can_not_name_other_files_of_the_machine(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = artifact(tmp_path / "artifact")
    (folder / "results/6.1/link").symlink_to(tmp_path / "secret")
    (folder / "results/6.1/loop").symlink_to("loop")
    [run, _] = inputs.read([folder])
    assert read_log(run, name, 100) is None


def test_the_middle_of_a_long_log_is_left_out(tmp_path: Path) -> None:
    [run, _] = inputs.read([artifact(tmp_path)])
    (tmp_path / "results/6.1/console.log").write_bytes(b"A" * 50 + b"m" * 1000 + b"Z" * 50)
    expected = b"A" * 50 + b"\n... 1000 bytes left out ...\n" + b"Z" * 50
    assert read_log(run, RUN.console, 100) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no result"),
        ("[]", "it has no kernel"),
        ("[" * 100_000, "no result"),
        ("null", "it has no kernel"),
        ('{"schema": 1}', "it has no kernel"),
        ('{"schema": 1, "runs": 5}', "it has no kernel"),
        ('{"schema": 1, "runs": [5]}', "not of schema 1"),
        ('{"kernel": "6.1", "schema": 99}', "not of schema 1"),
        ('{"kernel": "6.1", "schema": 1}', "outcome: Field required"),
        ('{"kernel": 5, "schema": 1, "outcome": "passed"}', "kernel: Input should be"),
        ('{"kernel": "6.1", "schema": 1, "outcome": "fine"}', "outcome: Input should be"),
        ('{"kernel": "6.1", "schema": 1, "outcome": "passed", "tests": [7]}', "tests.0: "),
        ('{"kernel": "6.1", "schema": 1, "outcome": "passed", "programs": {"a": 1}}', "programs: "),
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        inputs.read([path])
    assert str(path) in caught.value.what
    assert why in caught.value.what


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.json: No such file"):
        inputs.read([tmp_path / "no.json"])
    with pytest.raises(UsageError, match="no results in this folder"):
        inputs.read([tmp_path])


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "6.1.json"
    files.write(RUN, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}))
    [run] = inputs.read([path])
    assert run.run == RUN


def test_a_saved_file_of_several_kernels_is_read(tmp_path: Path) -> None:
    files.save([VERIFIED, VERIFIED], tmp_path / "base.json")
    assert len(inputs.read([tmp_path / "base.json"])) == 2
