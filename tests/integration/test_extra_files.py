"""The payload's extra files, as a test in the guest finds them."""

import pytest

from bpfmatrix.results.outcome import Outcome
from tests.tool import ToolProject

pytestmark = pytest.mark.integration

CHECKS = """
set -e
[ "$(cat data/deep/text)" = deep ]
[ "$(cat one)" = deep ]
[ "$(data/tool)" = "tool ran" ]
[ "$(cat listed/by/command)" = deep ]
[ ! -x data/deep/text ]
"""


def test_the_guest_has_single_files_folders_and_listed_files(project: ToolProject) -> None:
    deep = project.root / "tree/deep"
    deep.mkdir(parents=True)
    (deep / "text").write_text("deep\n")
    project.script("tree/tool", "echo tool ran")
    project.script("list", r"printf 'by/command\ttree/deep/text\n'")
    project.configure(
        payload={
            "ebpf": None,
            "go": None,
            "binaries": [project.script("checks", CHECKS)],
            "files": {"data": "tree", "one": "tree/deep/text"},
            "listed": {"listed": ["./list"]},
        }
    )
    done = project.invoke("run", "--kernel", "6.1")
    assert done.status == 0, done.output
    assert project.result().outcome is Outcome.PASSED

    # A file of the folder changes, and so does the payload.
    (deep / "text").write_text("changed\n")
    assert project.invoke("run", "--kernel", "6.1").status == 1
