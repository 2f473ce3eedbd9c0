"""The logs of a result, which lie beside it."""

from pathlib import Path

import pytest

from bpfmatrix.report import inputs
from bpfmatrix.report.logs import read_log
from tests.report.samples import RUN, artifact


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
