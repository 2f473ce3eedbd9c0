"""`shell --tools`: perf, bpftrace and bpftool from Debian's packages, in a guest.

`nox -s tools` does the same for the oldest and the newest kernel, and for arm64.
"""

import pytest

from tests.tool import ToolProject

pytestmark = pytest.mark.integration

USES = r"""
bpftool version
perf --version
perf record -q -o /tmp/data -e cpu-clock -- dd if=/dev/zero of=/dev/null count=100000 2>/dev/null
perf report -i /tmp/data --stdio 2>/dev/null | grep '%.*dd'
bpftrace -e 'BEGIN { printf("traced by %d\n", pid); exit(); }'
pwd
"""


def uses_all_tools(project: ToolProject, kernel: str, series: str) -> None:
    project.configure([kernel])
    done = project.invoke("shell", "--kernel", kernel, "--tools", "--", USES)
    assert done.status == 0, done.output
    lines = done.output.splitlines()
    assert any(line.startswith("bpftool v") for line in lines), done.output
    assert any(line.startswith(f"perf version {series}.") for line in lines), done.output
    assert any("[kernel.kallsyms]" in line for line in lines), done.output
    assert any(line.startswith("traced by ") for line in lines), done.output
    assert lines[-1] == "/payload"


def test_the_tools_of_the_kernels_own_series(project: ToolProject) -> None:
    uses_all_tools(project, "6.1", "6.1")


def test_a_second_root_is_refused(project: ToolProject) -> None:
    done = project.invoke("shell", "--kernel", "6.1", "--tools", "--rootfs", "host")
    assert done.status == 2
    assert "error: --tools brings a root file system of its own" in done.output
