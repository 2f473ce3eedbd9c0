"""perf, bpftrace and bpftool in guests of the oldest and the newest kernel, and on arm64."""

import pytest

from tests.integration.test_shell_tools import uses_all_tools
from tests.tool import ToolProject


@pytest.mark.parametrize(
    ("kernel", "series"), [("5.10", "5.10"), ("7.3", "7.3"), ("6.1-arm64", "6.1")]
)
def test_the_tools_of_the_kernels_own_series(
    project: ToolProject, kernel: str, series: str
) -> None:
    uses_all_tools(project, kernel, series)
