"""What failed tests print of programs that did not load: real outputs, and wild ones.

The files in `outputs/` are what tests with these releases of the libraries printed on 5.10 and 7.3.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.rejections import judge
from bpfmatrix.rejections.printed import PrintedFailure, find, without_logs
from bpfmatrix.results.kernel_run import Rejection, TestResult
from bpfmatrix.results.outcome import Outcome

OUTPUTS = Path(__file__).parent / "outputs"
TEST = TestResult("b", "TestX", Outcome.FAILED)
NULL = "R0 invalid mem access 'map_value_or_null'"


def printed(name: str) -> list[PrintedFailure]:
    return find((OUTPUTS / f"{name}.txt").read_text())


def reasons(name: str) -> dict[str, tuple[str, str]]:
    """Return the code and the reason of each program or map of an output."""
    found = [(one, judge.as_printed(TEST, one)) for one in printed(name)]
    return {one.program or one.map: (r.code, r.reason) for one, r in found if r}


@pytest.mark.parametrize(
    ("name", "loader", "program", "is_whole"),
    [
        # 0.12 and 0.22 print the last lines; with %+v, and before 0.10, all of them are printed.
        ("cilium-ebpf-0.8.1", "cilium-ebpf", "on_connect", True),
        ("cilium-ebpf-0.12.3", "cilium-ebpf", "on_connect", False),
        ("cilium-ebpf-0.22-5.10", "cilium-ebpf", "on_connect", True),
        ("cilium-ebpf-0.22-7.3", "cilium-ebpf", "on_connect", True),
        ("libbpf-1.1", "libbpf", "on_connect", True),
        ("libbpf-1.8", "libbpf", "on_connect", True),
        ("aya-0.16", "aya", "", True),  # it names no program
    ],
)
def test_a_rejection_is_found_whoever_loaded_the_program(
    name: str, loader: str, program: str, is_whole: bool
) -> None:
    first = printed(name)[0]
    assert (first.loader, first.step, first.program) == (loader, "load", program)
    assert (first.errno, first.is_whole) == ("EACCES", is_whole)
    found = judge.as_printed(TEST, first)
    assert found is not None
    assert (found.code, found.reason) == ("verifier-rejected", NULL)


def test_a_log_that_was_cut_to_its_last_lines_has_the_instruction() -> None:
    (one,) = printed("cilium-ebpf-0.12.3")
    assert one.log == ("7: (79) r1 = *(u64 *)(r0 +0)", NULL)


def test_the_log_of_a_newer_kernel_names_file_and_line() -> None:
    for name in ("cilium-ebpf-0.22-7.3", "libbpf-1.1"):
        found = judge.as_printed(TEST, printed(name)[0])
        assert found is not None
        assert found.source == "connect.bpf.c:19"
        assert found.explanation.endswith(NULL)


@pytest.mark.parametrize("library", ["cilium-ebpf-0.22", "libbpf-1.1", "libbpf-1.8"])
def test_what_a_kernel_lacks_has_the_code_of_verify(library: str) -> None:
    found = reasons(f"{library}-missing")
    assert found["of_another_type"][0] == "unsupported-helper"
    assert found["missing_field"][0] == "relocation-failed"
    assert found["no_function"][0] == "attach-target-missing"
    assert "there_is_no_such_function" in found["no_function"][1]
    assert found["bloom"][0] == "map-create-failed"
    assert "bloom" in found["bloom"][1]


def test_kfuncs_that_a_kernel_lacks_are_named() -> None:
    found = reasons("cilium-ebpf-0.22-missing")
    assert found["with_kfunc"] == (
        "unsupported-kfunc",
        "this kernel has no kfunc bpf_task_from_pid",
    )
    assert found["unchecked_kfunc"][0] == "unsupported-kfunc"


@pytest.mark.parametrize(
    "line",
    [
        "    x_test.go:12: load: program p: load program: operation not permitted",
        "    x_test.go:1: program p: load program: operation not permitted (MEMLOCK may be low)",
        "    x_test.go:12: I load program: five",
        "dlopen plugin: can't load program: no such file or directory",
        "dlopen plugin: can't load program: permission denied",
        "nginx: program loader: load program: no such file or directory",
        "program foo: attach kprobe/bar: no such file",
        "libbpf: map 'events': failed to create: Operation not permitted(-1)",
        "map events: map create: operation not permitted (MEMLOCK may be too low, consider x)",
        "libbpf: prog 'p': failed to create kprobe 'do_x+0x0' perf event: No such file",
        "",
    ],
)
def test_other_failures_are_no_rejections(line: str) -> None:
    assert [one for one in find(line) if judge.as_printed(TEST, one)] == []


def test_a_logger_quotes_the_error() -> None:
    error = "program p: load program: permission denied: R1 !read_ok (9 line(s) omitted)"
    (one,) = find(f'level=ERROR err="{error}"')
    assert (one.program, one.errno, one.log) == ("p", "EACCES", ("R1 !read_ok",))


def test_text_of_the_test_behind_the_error_is_no_log() -> None:
    (one,) = find(
        "    x_test.go:1: program p: load program: permission denied: R1 !read_ok\n"
        "        while testing the third case\n"
    )
    assert one.log == ("R1 !read_ok",)


def test_old_libbpf_names_the_program_behind_its_log() -> None:
    (one,) = find(
        "libbpf: load bpf program failed: Permission denied\n"
        "libbpf: -- BEGIN DUMP LOG ---\n"
        "libbpf: \n"
        "0: (79) r1 = *(u64 *)(r0 +0)\n"
        "R0 !read_ok\n"
        "processed 1 insns\n"
        "\n"
        "libbpf: -- END LOG --\n"
        "libbpf: failed to load program 'kprobe/do_x'\n"
    )
    assert (one.program, one.errno, one.is_whole) == ("do_x", "EACCES", True)
    assert one.log[:2] == ("0: (79) r1 = *(u64 *)(r0 +0)", "R0 !read_ok")


def test_bcc_names_the_program_in_its_exception() -> None:
    (one,) = find(
        "bpf: Failed to load program: Permission denied\n"
        "; *count += 1; @ main.c:7\n"
        "7: (79) r1 = *(u64 *)(r0 +0)\n"
        f"{NULL}\n"
        "processed 7 insns (limit 1000000) max_states_per_insn 0\n"
        "\n"
        "Traceback (most recent call last):\n"
        "Exception: Failed to load BPF program b'on_connect': Permission denied\n"
    )
    assert (one.loader, one.program, one.is_whole) == ("bcc", "on_connect", True)
    found = judge.as_printed(TEST, one)
    assert found is not None
    assert (found.reason, found.source) == (NULL, "main.c:7")


def test_our_own_tests_print_the_whole_log() -> None:
    (one,) = find(
        "    x_test.go:54: rejected: program on_sample of x.bpf.o: permission denied\n"
        "        rejected: ebpf/x.bpf.c:76: *count += 1;\n"
        "        ----- verifier log: on_sample -----\n"
        "        7: (79) r1 = *(u64 *)(r0 +0)\n"
        f"        {NULL}\n"
        "        ----- end of verifier log -----\n"
    )
    assert (one.program, one.errno, one.is_whole) == ("on_sample", "EACCES", True)


WILD = [
    "x",
    " ",
    "a.go:",
    "program p: load program: permission denied: x ",
    "    program p: load program: permission denied: x\n",
    "map 'm': failed to create",
    "libbpf: ",
    "load program \\n",
    "program a",
    'LoadError { io_error: message: "',
    "prog 'p': BPF program load failed: -13\n-- BEGIN PROG LOAD LOG --\n",
    "verifier_log: the BPF_PROG_LOAD syscall failed Verifier output: \n ",
    "bpf: Failed to load program: x\n",
    "----- verifier log: p -----\n",
]


@pytest.mark.parametrize("piece", WILD)
def test_a_large_output_of_anything_is_read(piece: str) -> None:
    # If the search were quadratic, each of these would take longer than a test may.
    for text in (piece, f"{piece}\n"):
        output = text * ((256 << 10) // len(text))
        find(output)
        without_logs(output)


def test_a_rejection_behind_a_long_line_is_found() -> None:
    (one,) = find("x" * 100_000 + "\nprogram p: load program: permission denied: R1 !read_ok\n")
    assert (one.program, one.log) == ("p", ("R1 !read_ok",))


def test_a_quoted_log_in_one_long_line_is_whole() -> None:
    log = "\\n".join(f"{n}: (b7) r1 = {n}" for n in range(1000))
    (one,) = find(
        f'LoadError {{ io_error: x, message: "Permission denied" }}, verifier_log: \\n{log}\\n'
        "R1 !read_ok\\nprocessed 1000 insns\n"
    )
    assert one.is_whole
    assert "R1 !read_ok" in one.log


def test_an_output_is_shown_without_its_logs() -> None:
    for name in ("libbpf-1.1", "cilium-ebpf-0.8.1", "aya-0.16"):
        text = without_logs((OUTPUTS / f"{name}.txt").read_text() + "\nASSERT: 3 is not 4\n")
        assert text.endswith("\nASSERT: 3 is not 4")
        assert "(the verifier's log: " in text


PIECES = st.sampled_from(
    [
        "program p: load program: permission denied: ",
        "load program: invalid argument:\n\t",
        "libbpf: prog 'p': BPF program load failed: -EACCES\n",
        "libbpf: prog 'p': -- BEGIN PROG LOAD LOG --\n",
        "-- END PROG LOAD LOG --\n",
        "the BPF_PROG_LOAD syscall returned x. Verifier output: ",
        "bpf: Failed to load program: ",
        "----- verifier log: p -----\n",
        "7: (79) r1 = *(u64 *)(r0 +0)\n",
        "map m: map create: ",
        "(7 line(s) omitted)",
        "\\n",
        "\\",
    ]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=20).map("".join))
def test_any_output_can_be_read(output: str) -> None:
    for one in find(output):
        found = judge.as_printed(TEST, one)
        assert found is None or isinstance(found, Rejection)
        assert found is None or ("\0" not in found.reason or "\0" in output)
