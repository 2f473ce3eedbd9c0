"""Real guests of other architectures than x86_64: `nox -s architectures` runs these tests.

They take minutes, as these guests are emulated, and need each architecture's QEMU.
"""

import os
from pathlib import Path

import pytest

from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.results import checked
from bpfmatrix.results.outcome import Outcome
from tests.tool import NO_PAYLOAD, REPOSITORY, ToolProject, by_name

pytestmark = [pytest.mark.integration, pytest.mark.architectures]

KERNELS = {
    "6.12-riscv64": "riscv64",
    "6.12-s390x": "s390x",
    "6.12-ppc64el": "ppc64le",
    "6.12-arm64-16k": "aarch64",
}
# What the suite of this repository skips there, by words of the reasons.
PYTHON, JIT, UNWINDING = "no Python", "needs a JIT compiler", "no frame pointers"
SKIPPED = {
    "6.12-riscv64": {PYTHON, JIT, UNWINDING},
    "6.12-s390x": {PYTHON, JIT, UNWINDING},
    "6.12-ppc64el": {PYTHON, UNWINDING},
    "6.12-arm64-16k": {PYTHON},
}
# Without a driver of pvpanic, which Debian's kernels for other architectures lack.
REPORTS_PANICS = ("6.12-s390x", "6.12-ppc64el")
# The programs in C of the guest make system calls whose numbers each architecture has.
GUEST = """
uname -m
grep -m 1 KernelPageSize /proc/self/smaps
id -u; ulimit -n
unlock-terminal </dev/ptmx && echo unlocked
exit 3
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_suite_of_this_repository(kernel: str) -> None:
    run = ToolProject(REPOSITORY).run(kernel=kernel)[1]
    assert (run.outcome, run.arch) == (Outcome.PASSED, KERNELS[kernel])
    assert run.start == ("warm" if ARCHITECTURES[run.arch].can_be_restored else "cold")
    skipped = [test.reason for test in run.tests if test.outcome is Outcome.SKIPPED]
    assert len(skipped) == len(SKIPPED[kernel])
    assert all(any(words in reason for reason in skipped) for words in SKIPPED[kernel])


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_guest_and_its_end(project: ToolProject, kernel: str) -> None:
    """One guest: a user, a share, an exit status, and at last a panic."""
    arch = KERNELS[kernel]
    (project.root / "seen").mkdir()
    (project.root / "seen/text").write_text("of the host\n")
    binaries = [
        {"path": project.script("a-user", GUEST), "user": "nobody", "limits": {"nofile": 123}},
        {"path": project.script("b-share", f"cat {project.root}/seen/text")},
        {"path": project.script("c-panic", "echo c >/proc/sysrq-trigger; sleep 60")},
    ]
    payload = {**NO_PAYLOAD, "binaries": binaries, "share": ["seen"]}
    qemu = {"extra_args": ["-cpu", "cortex-a76"]} if kernel.endswith("16k") else {}
    project.configure([kernel], payload=payload, arch=arch, qemu=qemu)
    done, run = project.run(kernel=kernel)
    assert run.outcome is Outcome.PANIC, done.output
    guess = " (a guess by the console: the kernel has no pvpanic driver)"
    reported = kernel in REPORTS_PANICS
    assert run.reason == f"panic after 2 tests: sysrq triggered crash{'' if reported else guess}"
    results = by_name(run)
    assert results["a-user"].outcome is Outcome.FAILED
    assert "status 3" in results["a-user"].reason
    lines = results["a-user"].output.splitlines()
    assert lines[0] == arch
    assert lines[1].split() == ["KernelPageSize:", "16" if kernel.endswith("16k") else "4", "kB"]
    assert {"65534", "123", "unlocked"} <= set(lines)
    assert (results["b-share"].outcome, results["b-share"].output) == (
        Outcome.PASSED,
        "of the host\n",
    )


# The libraries that loader-libbpf is linked with come from bookworm, which has no riscv64.
LOADERS = {kernel: ["cilium-ebpf", "libbpf"] for kernel in KERNELS} | {
    "6.12-riscv64": ["cilium-ebpf"]
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_verify(kernel: str, tmp_path: Path) -> None:
    """Each loader takes the objects of its own byte order."""
    saved = tmp_path / "saved.json"
    loaders = ",".join(LOADERS[kernel])
    objects = ["ebpf/sched_monitor.bpf.o", "ebpf/stack_sampler.bpf.o"]
    done = ToolProject(REPOSITORY).invoke(
        "verify", *objects, "--kernel", kernel, "--loader", loaders, "--save", os.fspath(saved)
    )
    assert done.status == 0, done.output
    [verification] = checked.read_saved(saved)
    assert {one.loader for one in verification.programs} == set(LOADERS[kernel])
    assert {one.outcome for one in verification.programs} == {Outcome.PASSED}
