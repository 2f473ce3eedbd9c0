"""What a test printed, beside what `verify` says of the same program."""

import dataclasses

from bpfmatrix.rejections import judge
from bpfmatrix.rejections.judge import Verified
from bpfmatrix.rejections.printed import PrintedFailure
from bpfmatrix.results.kernel_run import Rejection, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult
from bpfmatrix.verify.verifierlog import LineInfo

TEST = TestResult("b", "TestX", Outcome.FAILED)
INSTRUCTION, NULL = "7: (79) r1 = *(u64 *)(r0 +0)", "R0 invalid mem access 'map_value_or_null'"
SHORT = PrintedFailure("cilium-ebpf", "load", "p", "EACCES", (INSTRUCTION, NULL))
LINES = [
    LineInfo(0, "./a.bpf.c", 14, "int p(void *ctx)"),
    LineInfo(7, "./a.bpf.c", 19, "*count += 1;"),
]
RESULT = ProgramResult(
    "a.o",
    "p",
    Outcome.FAILED,
    loader="cilium-ebpf",
    code=Code.VERIFIER_REJECTED,
    reason=NULL,
    errno="EACCES",
    log=".bpfmatrix/p.log",
)
LOG = (
    f"; int p(void *ctx)\n0: (b7) r1 = 1\n; *count += 1;\n{INSTRUCTION}\n{NULL}\nprocessed 7 insns"
)


def as_printed(one: PrintedFailure) -> Rejection:
    found = judge.as_printed(TEST, one)
    assert found is not None
    return found


def test_the_complete_log_of_verify_has_the_line_of_c() -> None:
    verified = Verified(RESULT, LOG, LINES, ran_now=True)
    assert judge.same(SHORT, [verified]) is verified
    found = judge.with_verified(as_printed(SHORT), verified, lambda name: "bpf/a.bpf.c")
    assert found.source == "bpf/a.bpf.c:19"
    assert found.explanation.splitlines()[:2] == [
        "bpf/a.bpf.c:14  int p(void *ctx)",
        "bpf/a.bpf.c:19  *count += 1;",
    ]
    assert (found.object, found.log, found.code) == ("a.o", ".bpfmatrix/p.log", "verifier-rejected")


def test_addresses_and_ids_do_not_make_two_messages_different() -> None:
    said = dataclasses.replace(SHORT, log=("R0 map_value(id=1,ks=4) at 0xffff888004ac8400 is bad",))
    log = "7: (79) r1 = 0\nR0 map_value(id=3,ks=4) at 0xffff888004acb800 is bad\n"
    assert judge.same(said, [Verified(RESULT, log, LINES)])


def test_another_reason_is_not_the_same() -> None:
    other = Verified(RESULT, "7: (79) r1 = 0\nR1 !read_ok\n", LINES)
    assert judge.same(SHORT, [other]) is None
    assert judge.same(SHORT, [dataclasses.replace(other, log="")]) is None
    another = Verified(dataclasses.replace(RESULT, program="q"), LOG)
    assert judge.same(SHORT, [another]) is None
    passed = Verified(dataclasses.replace(RESULT, outcome=Outcome.PASSED), LOG)
    assert judge.same(SHORT, [passed]) is None
    found = judge.with_apart(as_printed(SHORT), SHORT, [passed])
    assert "as verify loads it, the program loads" in found.note
    assert (found.reason, found.log) == (NULL, "")


def test_without_a_message_the_kernels_error_must_be_the_same() -> None:
    said = dataclasses.replace(SHORT, log=())
    assert judge.same(said, [Verified(RESULT, LOG)])
    other = dataclasses.replace(RESULT, errno="EINVAL")
    assert judge.same(said, [Verified(other, LOG)]) is None


def test_of_several_objects_with_only_the_same_error_none_is_chosen() -> None:
    said = dataclasses.replace(SHORT, log=())
    two = [Verified(RESULT, LOG), Verified(dataclasses.replace(RESULT, object="b.o"), LOG)]
    assert judge.same(said, two) is None
    found = judge.with_apart(as_printed(said), said, two)
    assert found.note == "it may be the program of any of these objects: a.o, b.o"
    assert (found.source, found.object) == ("", "")


def test_a_program_without_a_name_is_found_by_its_message() -> None:
    said = dataclasses.replace(SHORT, program="", loader="aya")
    fine = Verified(dataclasses.replace(RESULT, program="q", outcome=Outcome.PASSED))
    verified = Verified(RESULT, LOG, LINES)
    assert judge.same(said, [fine, verified]) is verified
    assert judge.with_verified(as_printed(said), verified).program == "p"
    whole = dataclasses.replace(said, log=tuple(LOG.splitlines()))
    assert judge.named_in_log(whole, ["p", "q"]) == "p"
    assert judge.named_in_log(said, ["p", "q"]) == ""


def test_a_map_is_found_by_its_name() -> None:
    said = PrintedFailure("libbpf", "map", errno="EINVAL", words=("map 'm': failed",), map="m")
    reason = "this kernel has no map type arena (map m)"
    result = dataclasses.replace(RESULT, code=Code.UNSUPPORTED_MAP_TYPE, reason=reason)
    assert judge.same(said, [Verified(result)])
    assert judge.same(said, [Verified(dataclasses.replace(result, reason="map other"))]) is None
    found = judge.with_verified(as_printed(said), Verified(result))
    assert (found.code, found.reason) == ("unsupported-map-type", reason)


def test_the_object_alone_has_the_line_of_the_printed_instruction() -> None:
    found = judge.at_lines(as_printed(SHORT), SHORT, LINES, ())
    assert found.source == "./a.bpf.c:19"
    message = dataclasses.replace(SHORT, log=(NULL,))
    assert judge.at_lines(as_printed(message), message, LINES, ()).source == ""


def test_verify_is_asked_only_if_it_knows_more() -> None:
    whole = dataclasses.replace(SHORT, is_whole=True)
    known = judge.at_lines(as_printed(whole), whole, LINES, ())
    assert not judge.needs_verify(known, whole)
    assert judge.needs_verify(as_printed(whole), whole)  # no line
    assert judge.needs_verify(known, SHORT)  # not the whole log
    assert not judge.needs_verify(as_printed(SHORT), dataclasses.replace(SHORT, loader="bcc"))


def test_a_program_that_is_optional_for_verify_is_not_for_a_test() -> None:
    optional = dataclasses.replace(
        RESULT, outcome=Outcome.SKIPPED, code=Code.OPTIONAL, reason="it is optional"
    )
    found = judge.with_verified(as_printed(SHORT), Verified(optional, LOG, LINES))
    assert (found.code, found.reason) == ("verifier-rejected", NULL)
