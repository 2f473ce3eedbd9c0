"""`invoke verify` on real kernels."""

import csv
import io
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results import checked, files
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from tests.tool import REPOSITORY, ToolProject, qemus_of, wait_until
from tests.verify.objectfiles import REJECTED, compiled, overwrite_section

pytestmark = pytest.mark.integration

KERNELS = ("5.10", "6.1", "6.12", "7.3")
OURS = {
    "bounded_loops": ("sum_range",),
    "ringbuf_events": ("on_sys_enter",),
    "sched_monitor": ("on_fork", "on_exec", "on_exit"),
    "stack_sampler": ("on_sample",),
    "system_config": ("on_sys_enter",),
}
ODD = ("dir ü/same name.o", "größe/same name.o")
# A loop whose every round the verifier walks.
LOOP = """\
#include "kernel_types.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 rounds = 100;
__u64 total;

SEC("raw_tp/sys_enter")
int looping(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 sum = ctx->args[1];

	for (__u32 i = 0; i < rounds; i++) {
		sum = sum & 1 ? sum * 3 + i : sum ^ i;
		asm volatile("" : "+r"(sum));
	}
	total = sum;
	return 0;
}
"""

# Within the verifier's limit of a million instructions, but verifying it takes many seconds here.
SLOW = """\
#include "kernel_types.h"

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int long_way(struct bpf_raw_tracepoint_args *ctx)
{
	volatile __u64 sum = 0;

	for (int i = 0; i < 120000; i++)
		sum += i;
	return sum;
}
"""

# The verifier's limit is a million instructions: one program is near it, the other above it.
NEAR = """\
#include "kernel_types.h"

char LICENSE[] SEC("license") = "GPL";
__u64 total;

#define LOOP(name, rounds)                                       \\
	SEC("raw_tp/sys_enter")                                      \\
	int name(struct bpf_raw_tracepoint_args *ctx)                \\
	{                                                            \\
		__u64 sum = ctx->args[1];                                \\
		for (__u32 i = 0; i < rounds; i++) {                     \\
			sum = sum * 3 + i;                                   \\
			asm volatile("" : "+r"(sum));                        \\
		}                                                        \\
		total = sum;                                             \\
		return 0;                                                \\
	}

LOOP(near, 135000)
LOOP(above, 150000)
"""


def declare(project: ToolProject, **keys: object) -> None:
    path = project.root / "kernels.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **keys}, sort_keys=False))


def verification(project: ToolProject, kernel: str = "6.1") -> Verification:
    return files.read_verification(project.root / f".bpfmatrix/verify/{kernel}.json")


def by_program(found: Verification) -> dict[tuple[str, str], ProgramResult]:
    return {(p.object, p.program): p for p in found.programs}


@pytest.fixture(scope="module")
def everywhere(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[ToolProject, int, str, list[Verification]]:
    """Our own objects, and two of one name, verified on all kernels by one call."""
    project = ToolProject(tmp_path_factory.mktemp("verify") / "project")
    project.configure(KERNELS, {"ebpf": str(REPOSITORY / "ebpf"), "go": None})
    for name in ODD:
        compiled(REJECTED, project.root / name)
    ours = (str(REPOSITORY / f"ebpf/{name}.bpf.o") for name in OURS)
    entries = [{"path": path} for path in (*ours, *ODD)]
    known = {"kernels": ["7.3"], "program": "unchecked", "object": ODD[0], "reason": "seen before"}
    wrong = {
        "kernels": ["6.12"],
        "program": "on_sample",
        "object": "*sampler*",
        "reason": "said to fail",
    }
    declare(project, verify={"objects": entries}, expect=[known, wrong])
    done = project.invoke("verify", "--save", "base.json")
    return (
        project,
        done.status,
        done.output,
        checked.read_saved(project.root / "base.json"),
    )


Everywhere = tuple[ToolProject, int, str, list[Verification]]


def test_our_own_programs_load_on_each_kernel(everywhere: Everywhere) -> None:
    _, _, _, found = everywhere
    assert [one.kernel for one in found] == list(KERNELS)
    for one in found:
        results = by_program(one)
        for name, programs in OURS.items():
            for program in programs:
                result = results[str(REPOSITORY / f"ebpf/{name}.bpf.o"), program]
                if name == "bounded_loops" and one.kernel == "5.10":
                    assert (result.outcome, result.code) == (Outcome.SKIPPED, Code.DECLARED)
                    assert result.reason.startswith("needs 5.17 (bpf_loop), this kernel is 5.10.")
                    continue
                assert result.outcome is Outcome.PASSED, (one.kernel, result)
                statistics = result.statistics
                assert statistics.instructions_limit == 1_000_000
                assert (statistics.instructions_processed or 0) > 20
                assert (statistics.jited_bytes or 0) > 100
                assert (statistics.translated_bytes or 0) > 100
                assert statistics.peak_states is not None
                assert statistics.verifier_us is not None


def test_a_rejection_is_beside_its_source_on_each_kernel(everywhere: Everywhere) -> None:
    project, status, output, found = everywhere
    assert status == 1
    for one in found:
        for name in ODD:
            result = by_program(one)[name, "unchecked"]
            assert (result.outcome, result.code) == (Outcome.FAILED, Code.VERIFIER_REJECTED)
            assert result.source == f"{Path(name).with_suffix('.c')}:18"
            lines = result.verifier_tail.splitlines()
            assert any("*count += 1;" in line for line in lines)
            assert any(line.strip().startswith("R0=map_value_or_null") for line in lines)
            assert "R0 invalid mem access 'map_value_or_null'" in lines
            assert result.log == f".bpfmatrix/verify/{one.kernel}/{name}/unchecked.log"
            log = (project.root / result.log).read_text()
            assert "R0 invalid mem access" in log
            assert by_program(one)[name, "fine"].outcome is Outcome.PASSED
    # Once for all kernels, with what to type next.
    assert output.count(f"unchecked of {ODD[1]}: R0 invalid mem access") == 1
    assert f"invoke verify '{ODD[1]}' --annotate unchecked --kernel" in output


def test_expected_failures_and_unexpected_passes_are_marked(everywhere: Everywhere) -> None:
    _, _, output, found = everywhere
    results = {one.kernel: by_program(one) for one in found}
    assert results["7.3"][ODD[0], "unchecked"].expected == "seen before"
    assert not results["7.3"][ODD[1], "unchecked"].expected
    assert not results["6.12"][ODD[0], "unchecked"].expected
    sampler = str(REPOSITORY / "ebpf/stack_sampler.bpf.o")
    assert results["6.12"][sampler, "on_sample"].expected == "said to fail"
    assert "1 failed as expected" in output
    assert "1 loaded unexpectedly" in output


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_each_walk_of_an_annotated_program_is_counted(everywhere: Everywhere, kernel: str) -> None:
    project, _, _, _ = everywhere
    compiled(LOOP, project.root / "loop.o")
    done = project.invoke("verify", "loop.o", "--annotate", "looping", "--kernel", kernel)
    assert done.status == 0
    one = files.read_verification(project.root / f".bpfmatrix/annotated/{kernel}.json")
    (result,) = one.programs
    count = result.statistics.instructions_processed
    assert f"instructions, walked {count:,} times" in done.output
    (hot,) = [line for line in done.output.splitlines() if "sum & 1 ?" in line]
    insns, walked = (int(cell.replace(",", "")) for cell in hot.split()[:2])
    assert insns >= 4
    assert walked > 300
    assert "const volatile" not in done.output  # outside of the program
    # What was verified before is still there.
    assert len(verification(project, kernel).programs) > 7


def test_changes_against_a_saved_run_are_shown(project: ToolProject) -> None:
    loop = compiled(LOOP, project.root / "loop.o")
    assert project.invoke("verify", "loop.o", "--save", "base.json").status == 0
    same = project.invoke("verify", "loop.o", "--against", "base.json")
    assert (same.status, "compared with base.json: no changes" in same.output) == (0, True)
    more = project.invoke("verify", "loop.o", "--against", "base.json", "--set", "rounds=300")
    assert more.status == 1
    assert "1 regression, 0 other changes" in more.output
    assert "instructions processed before" in more.output
    compiled(REJECTED.replace("int unchecked", "int looping"), loop)
    worse = project.invoke("verify", "loop.o", "--against", "base.json")
    assert worse.status == 1
    assert "looping: loaded, fails now: R0 invalid mem access" in worse.output
    assert "fine: new, loads" in worse.output


def test_a_program_over_the_limit_of_time_is_a_timeout(project: ToolProject) -> None:
    compiled(SLOW, project.root / "slow.o")
    done = project.invoke("verify", "slow.o", "--limit", "1s")
    assert done.status == 1
    slow = by_program(verification(project))["slow.o", "long_way"]
    assert (slow.outcome, slow.code) == (Outcome.TIMEOUT, Code.TIMEOUT)


def test_a_program_near_the_verifiers_limit_is_no_timeout_on_a_slow_host(
    project: ToolProject,
) -> None:
    compiled(NEAR, project.root / "near.o")
    # Enough for a machine with KVM; under emulation it takes 5 to 15 s.
    declare(project, verify={"limit": "3s"})
    done = project.invoke("verify", "near.o")
    assert done.status == 1
    found = by_program(verification(project))
    near, above = found["near.o", "near"], found["near.o", "above"]
    assert near.outcome is Outcome.PASSED
    assert 940_000 < (near.statistics.instructions_processed or 0) < 1_000_000
    assert (above.outcome, above.code) == (Outcome.FAILED, Code.TOO_COMPLEX)


def test_an_object_is_loaded_with_each_loader_and_each_preset(project: ToolProject) -> None:
    compiled(LOOP, project.root / "loop.o")
    compiled(REJECTED, project.root / "rejected.o")
    presets = {"short": {"set": {"rounds": 10}}, "long": {"set": {"rounds": 500}}}
    declare(
        project,
        verify={
            "loader": ["libbpf", "cilium-ebpf"],
            "objects": [{"path": "loop.o", "presets": presets}, {"path": "rejected.o"}],
        },
        expect=[{"program": "unchecked", "loader": "libbpf", "reason": "known"}],
    )
    done = project.invoke("verify")
    assert "2 eBPF objects, 3 programs, with libbpf, cilium-ebpf" in done.output
    results = verification(project).programs
    counts = {
        (one.loader, one.preset): one.statistics.instructions_processed or 0
        for one in results
        if one.object == "loop.o"
    }
    for loader in ("libbpf", "cilium-ebpf"):
        assert 0 < 10 * counts[loader, "short"] < counts[loader, "long"]
    rejected = {one.loader: one for one in results if one.program == "unchecked"}
    assert {one.code for one in rejected.values()} == {Code.VERIFIER_REJECTED}
    assert len({one.log for one in rejected.values()}) == 2
    assert (rejected["libbpf"].expected, rejected["cilium-ebpf"].expected) == ("known", "")
    assert done.status == 1
    # What was told on the command line comes first.
    done = project.invoke("verify", "loop.o", "--loader", "libbpf", "--preset", "long")
    assert done.status == 0
    (only,) = verification(project).programs
    assert (only.loader, only.preset) == ("libbpf", "long")


def test_a_program_over_the_limit_of_instructions_is_too_close(project: ToolProject) -> None:
    compiled(LOOP, project.root / "loop.o")
    done = project.invoke("verify", "loop.o", "--max-insns", "1000")
    assert done.status == 1
    close = by_program(verification(project))["loop.o", "looping"]
    assert (close.outcome, close.code) == (Outcome.FAILED, Code.TOO_CLOSE)
    assert "instructions processed, more than 1000" in done.output


def test_an_object_of_100_mb_is_verified(project: ToolProject) -> None:
    filler = project.root / "filler"
    filler.write_bytes(os.urandom(1 << 20) * 100)
    section = f'asm(".section .debug_big\\n.incbin \\"{filler}\\"\\n.text");\n'
    big = compiled(REJECTED + section, project.root / "big.o")
    assert big.stat().st_size > 100 << 20
    project.invoke("verify", "big.o")
    results = by_program(verification(project))
    assert results["big.o", "fine"].outcome is Outcome.PASSED
    assert results["big.o", "unchecked"].code is Code.VERIFIER_REJECTED


def test_an_object_without_sound_btf_does_not_keep_others_from_loading(
    project: ToolProject,
) -> None:
    compiled(REJECTED, project.root / "good.o")
    overwrite_section(compiled(REJECTED, project.root / "broken.o"), ".BTF", b"junk")
    compiled(REJECTED, project.root / "without.o", debug=False)
    assert project.invoke("verify", "broken.o", "without.o", "good.o").status == 1
    results = by_program(verification(project))
    assert results["broken.o", "fine"].code is Code.BAD_BTF
    assert results["without.o", "fine"].code is Code.MISSING_BTF
    assert results["good.o", "fine"].outcome is Outcome.PASSED


def test_a_killed_machine_costs_only_programs_without_a_result(project: ToolProject) -> None:
    for number in range(3):
        compiled(SLOW, project.root / f"slow{number}.o")
    process = project.start("verify", "slow0.o", "slow1.o", "slow2.o")
    folder = project.root / ".bpfmatrix/verify/6.1"
    wait_until(lambda: (folder / "console.log").exists() and qemus_of(project), "a machine")
    wait_until(lambda: _threads_seconds(qemus_of(project)) > 1.5, "the verifier at work")
    for id in qemus_of(project):
        os.kill(id, signal.SIGKILL)
    done = project.finish(process)
    assert done.status == 1
    found = verification(project)
    assert found.outcome is Outcome.LOST
    codes = [result.code for result in found.programs]
    assert len(codes) == 3
    assert set(codes) <= {Code.KERNEL_DIED, Code.NOT_RUN}
    assert codes[0] is Code.KERNEL_DIED
    assert "lost: QEMU died of signal 9" in done.output


def test_a_panic_belongs_to_the_program_that_was_being_loaded(project: ToolProject) -> None:
    # Its map alone takes more memory than the guest has, so the kernel panics.
    compiled(
        """#include "kernel_types.h"
char LICENSE[] SEC("license") = "GPL";
unsigned char big[100 << 20] = {1};
SEC("raw_tp/sys_enter")
int uses_data(struct bpf_raw_tracepoint_args *ctx) { return big[5]; }
""",
        project.root / "data.o",
    )
    compiled(REJECTED, project.root / "a.o")
    project.configure(qemu={"memory": "160M"}, kernel_args=["sysctl.vm.panic_on_oom=1"])
    # Cold, as no other run could use a template of this machine.
    done = project.invoke("verify", "data.o", "a.o", "--cold")
    assert done.status == 1
    found = verification(project)
    assert found.outcome is Outcome.PANIC
    assert "panic: Out of memory: system-wide panic_on_oom is enabled" in done.output
    results = by_program(found)
    assert results["data.o", "uses_data"].code is Code.KERNEL_DIED
    assert results["data.o", "uses_data"].outcome is Outcome.PANIC
    assert len(results) == 3


def _threads_seconds(ids: list[int]) -> float:
    """Return how much processor time some processes have used."""
    ticks = 0
    for id in ids:
        fields = Path(f"/proc/{id}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_with_json_nothing_else_is_on_standard_output(project: ToolProject) -> None:
    compiled(REJECTED, project.root / "a.o")
    command = project.command("verify", "a.o", "--json")
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    (one,) = [files.parse_verification(data, "stdout") for data in json.loads(done.stdout)]
    assert one == verification(project)
    assert "unchecked of a.o: R0 invalid mem access" in done.stderr


def test_a_folder_is_verified_in_spite_of_the_files_in_it_that_are_no_objects(
    project: ToolProject,
) -> None:
    build = project.root / "build"
    compiled(REJECTED, build / "deep/a.o")
    compiled(LOOP, build / "loop.o")
    compiled("int add(int a, int b) { return a + b; }\n", build / "none.o")
    (build / "empty.o").touch()
    command = project.command("verify", "build", "--filter", "!/unchecked", "--csv", "-")
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    # Each program loaded that was to be loaded.
    assert done.returncode == 2, done.stderr
    assert "build: 4 object files" in done.stderr
    assert "build/empty.o: empty" in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["object"], row["prog_name"], row["verdict"], row["code"]) for row in rows] == [
        ("build/loop.o", "looping", "success", ""),
        ("build/deep/a.o", "fine", "success", ""),
        ("build/empty.o", "", "failure", "bad-object"),
        ("build/none.o", "", "failure", "bad-object"),
    ]
    assert int(rows[0]["total_insns"]) > 1000
    assert int(rows[0]["prog_size_jited"]) > 0
    one = verification(project)
    assert [(refused.object, refused.reason) for refused in one.refused] == [
        ("build/empty.o", "empty"),
        ("build/none.o", 'no eBPF program: no function in a section such as SEC("kprobe")'),
    ]
    # A rejection is worse than a file that is no object.
    assert project.invoke("verify", "build").status == 1


def test_ctrl_c_keeps_what_is_known(project: ToolProject) -> None:
    compiled(REJECTED, project.root / "a.o")
    for number in range(3):
        compiled(SLOW, project.root / f"slow{number}.o")
    words = ("a.o", "slow0.o", "slow1.o", "slow2.o")
    files_to_write = ("--save", "base.json", "--csv", "results.csv")
    process = project.start("verify", *words, *files_to_write, start_new_session=True)
    log = project.root / ".bpfmatrix/verify/6.1/a.o/unchecked.log"
    wait_until(log.exists, "the first object is done")
    # A terminal sends it to the whole process group.
    os.killpg(process.pid, signal.SIGINT)
    done = project.finish(process)
    assert done.status == 130
    assert qemus_of(project) == []
    assert "Traceback" not in done.output
    assert "not run" in done.output
    assert "unchecked of a.o: R0 invalid mem access" in done.output
    (saved,) = checked.read_saved(project.root / "base.json")
    assert saved == verification(project)
    assert saved.outcome is Outcome.INTERRUPTED
    results = by_program(saved)
    assert len(results) == 5
    assert results["a.o", "unchecked"].code is Code.VERIFIER_REJECTED
    last = results["slow2.o", "long_way"]
    assert (last.outcome, last.code) == (Outcome.INTERRUPTED, Code.NOT_RUN)
    rows = list(csv.DictReader((project.root / "results.csv").open()))
    assert [row["verdict"] for row in rows if row["file_name"] == "slow2.o"] == [""]


def test_an_expected_failure_of_a_test_lets_the_run_pass(project: ToolProject) -> None:
    bad, good = project.script("bad", "exit 1"), project.script("good", "exit 0")
    expect = [{"test": name, "reason": "known"} for name in (bad, good)]
    declare(project, expect=expect)
    done, run = project.run(bad, good)
    assert done.status == 0, done.output
    assert run.outcome is Outcome.PASSED
    assert [(test.name, test.outcome, test.expected) for test in run.tests] == [
        ("bad", Outcome.FAILED, "known"),
        ("good", Outcome.PASSED, "known"),
    ]
    assert "failed as expected: known" in done.output
    assert "passed unexpectedly: known" in done.output
    declare(project, expect=[{**expect[0], "until": "2020-01-01"}])
    done, run = project.run(bad, good)
    assert (done.status, run.outcome) == (1, Outcome.FAILED)
