"""The guest's network: none, or QEMU's user network, with a web server on the host."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from bpfmatrix.results.outcome import Outcome
from tests.tool import ToolProject

pytestmark = pytest.mark.integration


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a web server on the host's loopback interface."""

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello from the host\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("start", ["warm", "cold"])
def test_with_the_user_network_the_guest_reaches_the_host(
    project: ToolProject, port: int, start: str
) -> None:
    script = project.script(
        "fetches", f"wget -q -O - http://10.0.2.2:{port}/ && cat /etc/resolv.conf"
    )
    cold = ["--cold"] if start == "cold" else []
    done, run = project.run(script, options=["--net", "user", *cold])
    assert run.outcome is Outcome.PASSED, done.output
    assert run.start == start
    assert run.tests[0].output == "hello from the host\nnameserver 10.0.2.3\n"


def test_without_the_option_the_guest_has_only_loopback(project: ToolProject) -> None:
    script = project.script("looks", "ls /sys/class/net")
    for options in ([], ["--net", "none"]):
        _, run = project.run(script, options=options)
        assert run.tests[0].output == "lo\n"


def test_an_unknown_network_is_refused(project: ToolProject) -> None:
    done = project.invoke("shell", "--kernel", "6.1", "--net", "tap")
    assert done.status == 2
    assert done.output == "error: --net tap: expected one of user, none\n"
