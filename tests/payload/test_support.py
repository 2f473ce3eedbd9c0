"""The Go module's own tests: those that need neither root nor a kernel."""

import subprocess

from tests.tool import REPOSITORY


def test_go_tests_pass() -> None:
    done = subprocess.run(
        ["go", "test", "./..."],
        cwd=REPOSITORY / "support",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "bpfload" in done.stdout
