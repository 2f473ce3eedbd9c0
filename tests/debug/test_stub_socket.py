"""The socket of QEMU's gdb stub: where it is, who can reach it, and what is left of it."""

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from bpfmatrix.debug.stub_socket import listening
from bpfmatrix.errors import UsageError


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder for sockets."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_it_is_in_a_folder_of_the_user_alone(runtime: Path) -> None:
    before = os.umask(0)
    try:
        with listening(0) as stub:
            assert stub.path is not None
            assert stub.path.parent.parent == runtime
            assert stat.S_IMODE(stub.path.parent.stat().st_mode) == 0o700
            assert stub.target == str(stub.path)
            assert stub.port is None
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(stub.target)
    finally:
        os.umask(before)
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_nothing_is_left_of_it_after_an_error(runtime: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), listening(0):
        raise error
    assert list(runtime.iterdir()) == []


def test_a_folder_that_is_too_deep_for_a_socket_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("é" * 60)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with listening(0) as stub:
        assert stub.path is not None
        assert stub.path.parent.parent == Path("/tmp")
        assert list(deep.iterdir()) == []
    assert not stub.path.parent.exists()


@pytest.mark.parametrize("value", ["", "relative", "/does/not/exist", "/proc"])
def test_a_folder_that_can_not_be_used_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    with listening(0) as stub:
        assert stub.path is not None
        assert stub.path.parent.parent == Path(tempfile.gettempdir())


def test_a_folder_of_another_user_is_not_used(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its owner could put another socket there. Root has it after `sudo -E`.
    if os.getuid() == 0:
        os.chown(runtime, 5, 5)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 5)
    with listening(0) as stub:
        assert stub.path is not None
        assert runtime not in stub.path.parents


def test_a_port_is_on_the_loopback_interface() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with listening(port) as stub:
        assert stub.socket.getsockname() == ("127.0.0.1", port)
        assert (stub.target, stub.path) == (f"127.0.0.1:{port}", None)
        with pytest.raises(UsageError, match=f"--port {port}: Address already in use"):
            listening(port).__enter__()
    with pytest.raises(UsageError, match="expected 1 to 65535"):
        listening(65536).__enter__()
