"""The repository's own eBPF, and what comes of a program that verifiers reject."""

import re
import shutil

import pytest

from bpfmatrix.results import kernel_run
from bpfmatrix.results.outcome import Outcome
from tests.tool import REPOSITORY, ToolProject

pytestmark = pytest.mark.integration

# Of a lookup in a hash: for one in an array, newer verifiers need no check.
NULL_CHECK = """\
		if (!count) {
			count_sample(SAMPLES_LOST);
			return 0;
		}
"""


def test_a_program_that_is_broken_turns_every_kernel_red(project: ToolProject) -> None:
    project.configure(["5.10", "6.1", "7.3"], payload={"ebpf": "ebpf", "go": {"module": "support"}})
    ignored = shutil.ignore_patterns("*.o", "*.d")
    for folder in ("ebpf", "support"):
        shutil.copytree(REPOSITORY / folder, project.root / folder, ignore=ignored)
    program = project.root / "ebpf/stack_sampler.bpf.c"
    whole = program.read_text()
    assert NULL_CHECK in whole
    words = ("matrix", "--run", "TestStackSampler|TestSchedMonitor")

    program.write_text(whole.replace(NULL_CHECK, ""))
    done = project.invoke(*words)
    assert done.status == 1
    for kernel in ("5.10", "6.1", "7.3"):
        run = project.result(kernel)
        assert run.outcome is Outcome.FAILED
        # Those of the other programs still pass.
        assert run.count(Outcome.PASSED) > 0
        assert all("StackSampler" in test.name for test in run.failures)
        assert run.version in done.output
    # The verifier's own words, once for all kernels, with the line of C.
    after = done.output.partition("side by side")[2]
    assert after.count("R0 invalid mem access 'map_value_or_null'") == 1
    assert re.search(r"ebpf/stack_sampler\.bpf\.c:\d+  __sync_fetch_and_add", after)

    program.write_text(whole)
    done = project.invoke(*words)
    assert done.status == 0, done.output
    runs = [project.result(kernel) for kernel in ("5.10", "6.1", "7.3")]
    assert kernel_run.exit_status(runs) == 0
