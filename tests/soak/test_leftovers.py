"""What `nox -s soak` finds on the host after its runs, each made here on purpose."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from bpfmatrix.host import locks
from tests.soak import leftovers
from tests.tool import wait_until

_ORPHAN = """
import os, subprocess, sys
from tests.soak import leftovers

leftovers.adopt_orphans()
children = leftovers.Children()
# A shell that ends at once, and leaves two processes. One of them ends too.
shell = children.start(["sh", "-c", "sleep 600 & sleep 0 & wait $!; exit"])
shell.wait()
[orphan] = children.orphans()
assert orphan.name == "sleep", orphan
os.kill(orphan.pid, 9)
while children.orphans():
    pass
"""


def test_processes_are_found_by_their_run() -> None:
    env = {**os.environ, leftovers.VARIABLE: "test/1"}
    with subprocess.Popen(["sleep", "600"], env=env) as process:
        try:
            wait_until(lambda: leftovers.processes("test/1"), "the process has its environment")
            [found] = leftovers.processes("test/1")
            assert (found.pid, found.parent) == (process.pid, os.getpid())
            assert leftovers.processes("test/11") == []
        finally:
            process.kill()
    assert leftovers.processes("test/1") == []


def test_orphans_are_found_and_waited_for() -> None:
    subprocess.run([sys.executable, "-c", _ORPHAN], check=True, timeout=60)


def test_a_listening_socket_is_found() -> None:
    this = leftovers.Process(os.getpid(), "python")
    before = leftovers.listening([this])
    with socket.create_server(("127.0.0.1", 0)):
        assert len(leftovers.listening([this])) == len(before) + 1
    assert leftovers.listening([this]) == before


def test_locks_and_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with locks.locked(tmp_path / "file"), locks.folder_locked_if_free(tmp_path / "folder"):
        assert set(leftovers.held_locks(tmp_path)) == {
            str(tmp_path / "file"),
            str(tmp_path / "folder"),
        }
    assert leftovers.held_locks(tmp_path) == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "folder/s"))
        assert set(leftovers.files_below(tmp_path)) == {
            "file",
            "folder",
            "folder/s (a socket)",
        }
