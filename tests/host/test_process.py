import subprocess
import sys
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, PayloadError
from bpfmatrix.host.process import output

PARENT = """
import os, subprocess, sys
from bpfmatrix.host.process import tied
command = tied(["touch", sys.argv[1]])
# Slow to start, as on a busy host.
child = subprocess.Popen(["sh", "-c", 'sleep 0.3; exec "$@"', "sh", *command])
os._exit(0) if sys.argv[2] == "dies" else child.wait()
"""
# Its parent ends when the child is ready; the child's last word shows which signal it got.
ORPHAN = """
import os, subprocess, sys
from bpfmatrix.host.process import tied
script = 'trap "echo told; exit" TERM; echo ready; while :; do read -r _; done'
reader, writer = os.pipe()  # nothing is ever written
command = tied(["sh", "-c", script], by=sys.argv[1])
child = subprocess.Popen(command, stdin=reader, pass_fds=[writer])
sys.stdin.read()
"""


@pytest.mark.parametrize("fate", ["lives", "dies"])
def test_a_process_that_lost_its_parent_before_it_was_tied_runs_nothing(
    tmp_path: Path, fate: str
) -> None:
    ran = tmp_path / "ran"
    # Its standard output is inherited, and so stays open until the last of them has ended.
    command = [sys.executable, "-c", PARENT, str(ran), fate]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ran.exists() == (fate == "lives")


@pytest.mark.parametrize(("by", "last"), [("TERM", "told\n"), ("KILL", "")])
def test_a_tied_process_ends_with_its_parent(by: str, last: str) -> None:
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", ORPHAN, by]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        # The child has the other end of this pipe, so it is read to the end when the child is gone.
        assert parent.stdout.read() == last


def test_what_a_tool_said_last_is_its_reason() -> None:
    assert output(["echo", "a b"], "echo failed") == "a b\n"
    failing = [
        "sh",
        "-c",
        "printf '%0300d\\n' 0 >&2; echo 'the cause' >&2; echo failed >&2; exit 3",
    ]
    with pytest.raises(PayloadError) as caught:
        output(failing, "it failed", error=PayloadError)
    assert caught.value.what.startswith("it failed: 0")
    assert caught.value.what.endswith("0\nthe cause\nfailed")
    assert len(caught.value.what) == len("it failed: ") + 200
    with pytest.raises(BpfmatrixError, match="it exited with 1 and gave no reason"):
        output(["false"], "it failed")
    assert output(["sh", "-c", "echo $A"], "it failed", env={"A": "given"}) == "given\n"
