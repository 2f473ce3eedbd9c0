"""The commands of a batch, in a gdb whose guest is an ordinary process."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.symbols import Symbols
from tests.tool import REPOSITORY

IN_GDB = REPOSITORY / "src/bpfmatrix/debug/in_gdb/load.py"
SLEEP = shutil.which("sleep") or "sleep"


@pytest.mark.parametrize(
    ("batch", "failed", "left"),
    [
        (["print 1", "continue"], [["continue", "the machine has ended"]], []),
        (["continue", "print 1"], [["continue", "the machine has ended"]], ["print 1"]),
        (["kill", "print 1"], [], ["print 1"]),
        (["kill"], [], []),
    ],
)
def test_what_became_of_the_commands(
    batch: list[str], failed: list[list[str]], left: list[str], tmp_path: Path
) -> None:
    lines = [
        "set confirm off",
        f"source {IN_GDB}",
        "starti 0",
        f"python session.run_batch({batch!r}, {str(tmp_path / 'batch.json')!r})",
    ]
    words = [word for line in lines for word in ("-ex", line)]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *words, SLEEP], capture_output=True, text=True, check=False
    )
    gdb = Gdb(Path("gdb"), Symbols(Path(SLEEP), None), Cache(tmp_path / "cache"), tmp_path)
    report = gdb.batch_report
    assert report is not None, done.stdout + done.stderr
    assert [list(one) for one in report.failed] == failed
    assert list(report.left) == left
    assert done.returncode == (1 if failed or left else 0)


def test_a_connection_that_closes_at_kill_is_no_failure(tmp_path: Path) -> None:
    """QEMU may have ended before it answers."""
    hook = "define hookpost-kill\npython raise gdb.error('Remote connection closed')\nend"
    lines = [
        "set confirm off",
        f"source {IN_GDB}",
        f"python gdb.execute({hook!r})",
        "starti 0",
        f"python session.run_batch(['k', 'print 1'], {str(tmp_path / 'batch.json')!r})",
    ]
    words = [word for line in lines for word in ("-ex", line)]
    subprocess.run(["gdb", "-nx", "-batch", *words, SLEEP], capture_output=True, check=False)
    gdb = Gdb(Path("gdb"), Symbols(Path(SLEEP), None), Cache(tmp_path / "cache"), tmp_path)
    assert gdb.batch_report is not None
    assert (gdb.batch_report.failed, gdb.batch_report.left) == ((), ("print 1",))
