"""Every way in which tests end, each made to happen on a real kernel."""

import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from bpfmatrix.results.outcome import Outcome
from tests.goproject import GoModule
from tests.integration.kernels import KERNELS
from tests.tool import ToolProject, by_name

pytestmark = pytest.mark.integration

# Writes everything that could be taken for a pass, wherever it can, and fails.
LIES = """
echo PASS
echo '--- PASS: TestEverything (0.00s)'
echo 'ok  	example.com/x	0.1s'
echo 'ready 9.9'
for id in 1 2 3; do
	lie="exited $id status=0 limit=no oom_kills=0 tainted=0 full="
	echo "$lie"
	for port in /dev/vport* /proc/1/fd/3; do echo "$lie" >"$port"; done
done
echo done
echo 'exited 1 status=0' >/dev/kmsg
exit 1
"""

# Leaves processes that are hard to end: in the background, in a session of their own, ignoring
# signals, and starting new ones in a loop.
HANGS = """
sleep 98765 &
setsid sleep 98765 &
(trap '' TERM QUIT INT HUP; while :; do sleep 98765; done) &
setsid sh -c "trap '' TERM QUIT INT HUP; while :; do sleep 98765; done" &
echo about to hang
sleep 98765
"""

LEFT_OVER = """
! ps | grep '[9]8765'
"""

CRASHES = """
echo these are its last words
echo c >/proc/sysrq-trigger
sleep 60
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_test_on_a_machine_has_its_own_outcome(project: ToolProject, kernel: str) -> None:
    project.configure([kernel])
    done, run = project.run(
        project.script("passes", "echo hello; test $(id -u) = 0"),
        project.script("lies", LIES),
        project.script("hangs", HANGS),
        project.script("left_over", LEFT_OVER),
        project.script("crashes", CRASHES),
        project.script("never_runs", "true"),
        kernel=kernel,
        options=["--timeout", "4s"],
    )
    tests = by_name(run)
    assert {name: test.outcome for name, test in tests.items()} == {
        "passes": Outcome.PASSED,
        "lies": Outcome.FAILED,
        "hangs": Outcome.TIMEOUT,
        "left_over": Outcome.PASSED,
        "crashes": Outcome.PANIC,
    }
    assert tests["passes"].output == "hello\n"
    assert tests["lies"].reason == "exit status 1"
    assert tests["hangs"].reason == "ran into its limit of 4 s (--timeout)"
    assert tests["hangs"].output.startswith("about to hang\n")
    assert 4 <= tests["hangs"].seconds < 60
    assert tests["crashes"].output == "these are its last words\n"
    assert run.outcome is Outcome.PANIC
    assert run.reason == "panic after 4 tests: sysrq triggered crash"
    assert run.release.startswith(f"{kernel}.")
    assert done.status == 1
    # The output shows what happened, and the last lines of the console.
    assert "panic after 4 tests: sysrq triggered crash" in done.output
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.output
    assert any(line.startswith("sysrq_handle_crash+0x") for line in run.trace)
    assert run.trace[-1] in done.output
    assert "Kernel panic" in (project.root / run.console).read_text()
    assert "Traceback" not in done.output


def test_a_cold_run_and_a_warm_one_have_the_same_result(project: ToolProject) -> None:
    script = project.script("passes", "echo hello")
    cold, cold_run = project.run(script, options=["--cold"])
    first, first_run = project.run(script)
    warm, warm_run = project.run(script)
    for done, run in ((cold, cold_run), (first, first_run), (warm, warm_run)):
        assert done.status == 0, done.output
        assert run.outcome is Outcome.PASSED
        assert [(test.name, test.outcome) for test in run.tests] == [("passes", Outcome.PASSED)]
        assert run.provenance["source"].startswith("apt ")
        assert run.provenance["digest"].startswith("sha256:")
    assert (cold_run.start, warm_run.start) == ("cold", "warm")
    assert warm_run.seconds_to_ready < cold_run.seconds_to_ready
    assert cold_run.release == warm_run.release


def test_full_memory_and_full_file_systems_are_named(project: ToolProject) -> None:
    _, run = project.run(
        project.script("eats_memory", "tail /dev/zero"),
        project.script("after_it", "echo fine"),
        project.script("fills_tmp", "cat /dev/zero >/tmp/file"),
        project.script("fills_and_passes", "cat /dev/zero >/dev/shm/file; true"),
    )
    tests = by_name(run)
    assert tests["eats_memory"].outcome is Outcome.FAILED
    assert tests["eats_memory"].reason == "killed by the kernel: the guest's memory was full"
    assert tests["after_it"].outcome is Outcome.PASSED
    assert tests["fills_tmp"].outcome is Outcome.FAILED
    assert tests["fills_tmp"].reason == "exit status 1; /tmp of the guest was full"
    assert "No space left" in tests["fills_tmp"].output
    assert tests["fills_and_passes"].outcome is Outcome.PASSED
    assert run.outcome is Outcome.FAILED


def test_a_reason_names_the_signal_or_the_exit_status(project: ToolProject) -> None:
    _, run = project.run(
        project.script("segfaults", "kill -SEGV $$"),
        project.script("exits_42", "exit 42"),
        project.script("has_no_program", "no-such-program"),
        project.script("reads_stdin", "! read -r line"),
        project.script("is_not_deaf", "trap 'exit 0' QUIT; kill -QUIT $$; exit 1"),
    )
    tests = by_name(run)
    assert tests["segfaults"].reason == "killed by SIGSEGV"
    assert tests["exits_42"].reason == "exit status 42"
    assert tests["has_no_program"].outcome is Outcome.FAILED
    assert tests["reads_stdin"].outcome is Outcome.PASSED
    assert tests["is_not_deaf"].outcome is Outcome.PASSED
    assert run.reason == "segfaults and 2 more: killed by SIGSEGV"


def test_a_flood_of_output_is_cut_and_takes_little_memory(project: ToolProject) -> None:
    # More than a log may have, in lines, and then a failure.
    script = project.script(
        "floods", "yes 0123456789012345678901234567890123456789 | head -c 70000000; exit 3"
    )
    process = project.start("run", "--kernel", "6.1", "--binary", script)
    peaks: list[int] = []

    def sample() -> None:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            peaks.extend(int(s.split()[1]) for s in status.splitlines() if s.startswith("VmHWM"))
            time.sleep(0.1)

    sampler = threading.Thread(target=sample)
    sampler.start()
    done = project.finish(process)
    sampler.join()
    run = project.result()
    [test] = run.tests
    assert (test.outcome, test.reason) == (Outcome.FAILED, "exit status 3")
    assert len(test.output) < 100_000
    assert "characters left out" in test.output
    log = project.root / run.logs[0]
    assert 60 << 20 < log.stat().st_size < 65 << 20
    assert b"... cut here, after 64 MiB ..." in log.read_bytes()[-100:]
    assert max(peaks) < 200 << 10  # KiB; most of it is Python and its libraries
    assert len(done.output) < 20_000
    assert done.status == 1


OOPSES = """
base64 -d >/tmp/oops.ko <<'END'
{module}
END
insmod /tmp/oops.ko
echo still alive
"""


def test_an_oops_fails_the_test_that_caused_it(project: ToolProject, tmp_path: Path) -> None:
    project.configure(modules=["x_tables"])  # which the broken module needs
    _, run = project.run(
        project.script("passes", "true"),
        project.script("oopses", OOPSES.format(module=broken_module(tmp_path))),
        project.script("after_it", "true"),
    )
    tests = by_name(run)
    assert tests["oopses"].output.endswith("still alive\n")
    assert tests["passes"].outcome is Outcome.PASSED
    assert tests["oopses"].outcome is Outcome.FAILED
    assert tests["oopses"].reason == "the kernel had an oops while it ran"
    assert tests["after_it"].outcome is Outcome.PASSED
    assert re.match(r"(pkttype_mt_init|init_module)\+0x\w+/0x\w+ \[\w+\]$", run.trace[0])
    assert any(line.startswith("do_one_initcall+0x") for line in run.trace)
    assert "invalid opcode" in (project.root / run.console).read_text()


def broken_module(tmp_path: Path) -> str:
    """Return, in base64, a module of the 6.1 kernel whose init is an illegal instruction."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import SymbolTableSection

    from bpfmatrix import kernels
    from bpfmatrix.config.project import Project
    from tests.tool import REPOSITORY

    ours = Project.load(REPOSITORY)
    image, _ = kernels.provide(ours.config.kernel("6.1"), ours.cache)
    assert image.modules is not None
    path = image.modules / "kernel/net/netfilter/xt_pkttype.ko"
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        found = symbols.get_symbol_by_name("init_module")
        assert found is not None
        section = elf.get_section(found[0]["st_shndx"])
        relocations = elf.get_section_by_name(f".rela{section.name}")
        assert isinstance(relocations, RelocationSection)
        call = min(r["r_offset"] for r in relocations.iter_relocations())
    # The illegal instruction ud2 replaces two bytes behind the call that ftrace patches. No
    # relocation changes these bytes.
    place = section["sh_offset"] + call + 4
    data[place : place + 2] = b"\x0f\x0b"
    # The signature is cut off, since it no longer fits.
    assert data.endswith(b"~Module signature appended~\n")
    module = tmp_path / "oops.ko"
    module.write_bytes(data[:-28])
    return subprocess.run(["base64", module], capture_output=True, text=True, check=True).stdout


def test_arguments_and_variables_reach_go_tests_and_scripts(
    project: ToolProject, go_module: GoModule
) -> None:
    project.configure(payload={"ebpf": None, "go": None, "env": {"id": "it's", "SAMPLE": "a b\nc"}})
    arguments = ["one two", "it's", "a\nb", '"$HOME"', "", "größe *"]
    done, run = project.run(
        str(go_module.binary()),
        options=["--run", "TestMany|TestArguments|TestSubtests/good", "--", *arguments],
    )
    tests = by_name(run)
    assert done.status == 0, done.output
    assert len(tests) == 202
    for argument in ["one two", "it's", r"a\nb", r"\"$HOME\"", "", "größe *"]:
        assert f'"{argument}"\n' in tests["TestArguments"].output

    script = project.script("args", 'printf "<%s>" "$@" "$id" "$SAMPLE" "$HOME"')
    _, run = project.run(script, options=["--", *arguments])
    expected = "".join(f"<{word}>" for word in [*arguments, "it's", "a b\nc", "/root"])
    assert run.tests[0].output == expected


def test_each_go_test_has_its_outcome_when_one_hangs(
    project: ToolProject, go_module: GoModule
) -> None:
    project.configure(payload={"ebpf": None, "go": None, "env": {"SAMPLE": "hang"}})
    done, run = project.run(
        str(go_module.binary()),
        options=["--run", "TestPass|TestSkip|TestSubtests|TestHangs", "--timeout", "3s"],
    )
    tests = {name: test.outcome for name, test in by_name(run).items()}
    assert tests == {
        "TestPass": Outcome.PASSED,
        "TestSkip": Outcome.SKIPPED,
        "TestSubtests/good": Outcome.PASSED,
        "TestSubtests/bad": Outcome.FAILED,
        "TestSubtests/skipped": Outcome.SKIPPED,
        "TestSubtests/outer/in_ner": Outcome.PASSED,
        "TestHangs": Outcome.TIMEOUT,
    }
    # Go's own stacks, which it prints on the SIGQUIT that comes first.
    assert "SIGQUIT: quit" in by_name(run)["TestHangs"].output
    assert "sample_test.go" in by_name(run)["TestHangs"].output
    reason = r"ran into its limit of 3 s \(--timeout\), in sample_test\.go:\d+"
    assert re.fullmatch(reason, by_name(run)["TestHangs"].reason)
    assert run.outcome is Outcome.TIMEOUT
    assert "needs 5.17: bpf_loop" in done.output


def test_two_runs_at_once_do_not_see_each_other(project: ToolProject, tmp_path: Path) -> None:
    other, met = ToolProject(tmp_path / "other"), tmp_path / "met"
    other.configure()
    met.mkdir()
    # Each waits for the other in a folder that both share: then both machines run.
    meets = f"touch {met}/$(basename $0); until [ -e {met}/good ] && [ -e {met}/bad ]; do :; done"
    good = project.script("good", f"hostname >/tmp/mine; {meets}; cat /tmp/mine")
    bad = other.script("bad", f"{meets}; test ! -e /tmp/mine && exit 7")
    share = ("--share", f"{met}:rw")
    processes = [
        project.start("run", "--kernel", "6.1", "--binary", good, *share),
        other.start("run", "--kernel", "6.1", "--binary", bad, *share),
    ]
    statuses = [project.finish(process).status for process in processes]
    assert statuses == [0, 1]
    assert project.result().outcome is Outcome.PASSED
    assert other.result().reason == "bad: exit status 7"
