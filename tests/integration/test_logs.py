"""`invoke logs`: the logs of the last run, and of a run that goes on."""

import subprocess

import pytest

from tests.tool import ToolProject, plain_environment, wait_until

pytestmark = pytest.mark.integration


def test_the_logs_of_the_last_run(project: ToolProject) -> None:
    done = project.invoke("logs", "--kernel", "6.1")
    assert done.status == 1
    assert "there is no run of 6.1 yet\n       Run: invoke run --kernel 6.1\n" in done.output
    project.run(project.script("one", "echo from one; echo to the console >/dev/kmsg"))
    done = project.invoke("logs", "--kernel", "6.1")
    assert done.status == 0
    assert "Linux version 6.1" in done.output
    assert "to the console" in done.output
    assert project.invoke("logs", "--kernel", "6.1", "--test", "one").output == "from one\n"
    done = project.invoke("logs", "--kernel", "6.1", "--test", "on")
    assert done.status == 2
    assert "has no log of 'on' (did you mean \"one\"?)" in done.output
    assert "It has: console, one." in done.output


def test_the_log_of_a_test_is_followed_to_its_end(project: ToolProject) -> None:
    # The logs of an earlier run are not those of this one.
    project.run(project.script("other", "true"))
    shared = project.root / "shared"
    shared.mkdir()
    waits = f"until [ -e {shared}/seen ]; do sleep 0.1; done"
    script = project.script("slow", f"echo line 1; {waits}; echo line 2; echo line 3")
    run = project.start("run", "--kernel", "6.1", "--binary", script, "--share", str(shared))
    log = project.root / ".bpfmatrix/results/6.1/slow.log"
    wait_until(log.exists, "the test runs")
    follower = subprocess.Popen(
        project.command("logs", "--kernel", "6.1", "--test", "slow", "--follow"),
        cwd=project.root,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "line 1\n"
        # Only now, after its first line was printed, may the test go on.
        (shared / "seen").touch()
        assert follower.stdout.read() == "line 2\nline 3\n"
        assert follower.wait(60) == 0
    assert project.finish(run).status == 0
