"""Ctrl-C while modules are imported, in processes of their own: not lost, and no traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A module whose import sends the signal to its own process, and then goes on for a while.
INTERRUPTED = """\
import os, signal
os.kill(os.getpid(), signal.SIGINT)
for _ in range(100):
    import json.decoder
done = True
"""

RAISED = """\
import signal
from bpfmatrix.host import interrupts

before = signal.getsignal(signal.SIGINT)
try:
    with interrupts.raised():
        import interrupted
        print("imported", interrupted.done, flush=True)
        signal.pause()
except KeyboardInterrupt as error:
    print("interrupted")
assert signal.getsignal(signal.SIGINT) is before
"""

ENDING = """\
from bpfmatrix.host import interrupts

with interrupts.ending():
    import interrupted
"""

AFTERWARDS = """\
import os, signal
from bpfmatrix.host import interrupts

signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the program does
with interrupts.raised():
    pass
print("done", flush=True)
os.kill(os.getpid(), signal.SIGINT)
print("not ended")
"""

CANCELLED = """\
import asyncio, os, signal
from bpfmatrix.host import event_loop, interrupts

async def main():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled")
        raise

with interrupts.raised():
    try:
        event_loop.run(main())
    except KeyboardInterrupt:
        print("interrupted")
"""


def run(folder: Path, program: str, *, ignored: bool = False) -> tuple[int, str]:
    (folder / "interrupted.py").write_text(INTERRUPTED)
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL
        ),
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        (RAISED, 0, "imported True\ninterrupted\n"),
        (ENDING, -signal.SIGINT, ""),
        (AFTERWARDS, 130, "done\n"),
        # asyncio.run() still has its own way to end what runs.
        (CANCELLED, 0, "cancelled\ninterrupted\n"),
    ],
)
def test_ctrl_c_comes_when_it_can_be_handled(
    tmp_path: Path, program: str, status: int, said: str
) -> None:
    assert run(tmp_path, program) == (status, said)


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    assert run(tmp_path, ENDING + "print('not ended')\n", ignored=True) == (0, "not ended\n")
