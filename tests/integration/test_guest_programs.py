"""The guest's small programs in C, run on real kernels."""

import errno

import pytest
import yaml

from bpfmatrix.results.outcome import Outcome

from ..tool import REPOSITORY, ToolProject

pytestmark = pytest.mark.integration

SCRIPT = f"""
set -e
refresh-guest
# EPERM for another user: the kernel knows the request. It answers an unknown one with EINVAL.
echo nobody:x:65534:65534::/:/bin/sh >>/etc/passwd
su -s /bin/true nobody
status=0
su -s /bin/refresh-guest nobody || status=$?
[ $status = {errno.EPERM} ]

exec 7<>/dev/ptmx
if (: <>/dev/pts/0); then exit 1; fi
unlock-terminal <&7
: <>/dev/pts/0
status=0
unlock-terminal </dev/null || status=$?
[ $status = {errno.ENOTTY} ]
echo all is well
"""


@pytest.mark.parametrize("kernel", ["5.10", "7.3", "6.1-arm64"])
def test_the_programs_in_c_do_their_work(project: ToolProject, kernel: str) -> None:
    ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["kernels"]
    project.configure([kernel], arch=ours[kernel].get("arch", "x86_64"))
    project.script("programs", SCRIPT)
    done, run = project.run("programs", kernel=kernel)
    assert run.outcome is Outcome.PASSED, done.output
    assert (project.root / run.logs[0]).read_text().endswith("all is well\n")
