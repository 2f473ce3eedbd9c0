import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config.models import Expectation
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult
from bpfmatrix.verify.collector import Collector
from bpfmatrix.verify.judge import Judge
from bpfmatrix.verify.objects import LoadedObject
from tests.verify.test_verifierlog import OLD

SUBJECTS = {
    "objects/1.o": LoadedObject("ebpf/a.o", ("one", "two")),
    "objects/2.o": LoadedObject("../b ü.o", ("one",)),
}


def collector(folder: Path = Path("unused"), judge: Judge | None = None) -> Collector:
    return Collector(SUBJECTS, folder, str, judge or Judge(), lambda result: None)


def event(kind: str, **keys: Any) -> bytes:
    return json.dumps({"event": kind, **keys}).encode() + b"\n"


def passed(object: str, program: str, **keys: Any) -> bytes:
    return event("program", object=object, program=program, outcome="passed", **keys)


def packed(log: str) -> str:
    return base64.b64encode(gzip.compress(log.encode())).decode()


KEYS = (
    "outcome",
    "failure",
    "code",
    "reason",
    "excused",
    "calls",
    "statistics_log",
    "log",
    "line_info",
    "seconds",
    "instructions",
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(("failed", "passed", "skipped", "load", "map", "EINVAL", "stack depth 1+2")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=6)
            | st.sampled_from(("step", "errno", "words", "map", "missing", "kind", "name", "type")),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
WHOLE = b"".join(
    (
        event("kernel", release="6.1.192", arch="x86_64", features={"btf": True}),
        event("start", object="objects/1.o", program="", step="open"),
        event("start", object="objects/1.o", program="one", step="load"),
        event("map", object="objects/1.o", name="counts", type="hash", memory_bytes=4096),
        passed("objects/1.o", "one", statistics_log="processed 9 insns (limit 1000000)\n"),
        passed("objects/1.o", "two"),
        passed("objects/2.o", "one"),
        event("end", seconds=0.5),
    )
)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_events_come_in_pieces(cuts: list[int]) -> None:
    found, begin = collector(), 0
    for end in [*sorted(cuts), len(WHOLE)]:
        found.feed(WHOLE[begin:end])
        begin = end
    found.close()
    assert [(p.object, p.program, p.outcome) for p in found.programs] == [
        ("ebpf/a.o", "one", Outcome.PASSED),
        ("ebpf/a.o", "two", Outcome.PASSED),
        ("../b ü.o", "one", Outcome.PASSED),
    ]
    assert found.programs[0].statistics.instructions_processed == 9
    assert [one.object for one in found.maps] == ["ebpf/a.o"]
    assert found.ended == 1
    assert not found.messages


@given(st.integers(0, len(WHOLE)), st.sampled_from((Outcome.PANIC, Outcome.LOST)))
def test_each_program_has_one_result_wherever_the_machine_died(end: int, outcome: Outcome) -> None:
    found = collector()
    found.feed(WHOLE[:end])
    found.close()
    found.abandon(outcome, Code.KERNEL_DIED, "sysrq")
    keys = [(p.object, p.program) for p in found.programs]
    assert keys == [("ebpf/a.o", "one"), ("ebpf/a.o", "two"), ("../b ü.o", "one")]
    for result in found.programs:
        assert result.outcome in (Outcome.PASSED, outcome, Outcome.ERROR)
        assert (result.code is Code.KERNEL_DIED) == (result.outcome is outcome)
        assert (result.code is Code.NOT_RUN) == (result.outcome is Outcome.ERROR)


def test_what_was_under_way_died_and_the_rest_was_not_run() -> None:
    found = collector()
    found.feed(event("start", object="objects/1.o", program="one", step="load"))
    found.abandon(Outcome.PANIC, Code.KERNEL_DIED, "sysrq")
    assert [p.code for p in found.programs] == [Code.KERNEL_DIED, Code.NOT_RUN, Code.NOT_RUN]


def test_what_ctrl_c_ended_did_not_fail() -> None:
    found = collector()
    found.feed(passed("objects/1.o", "one"))
    found.feed(event("start", object="objects/1.o", program="two", step="load"))
    found.abandon(Outcome.INTERRUPTED, Code.NOT_RUN, "interrupted")
    assert [(p.outcome, p.code) for p in found.programs] == [
        (Outcome.PASSED, None),
        (Outcome.INTERRUPTED, Code.NOT_RUN),
        (Outcome.INTERRUPTED, Code.NOT_RUN),
    ]


def test_a_program_that_was_not_chosen_has_no_result() -> None:
    chosen = {"objects/1.o": LoadedObject("a.o", ("one",), frozenset({"two"}))}
    found = Collector(chosen, Path("logs"), str, Judge(), lambda _: None)
    found.feed(event("start", object="objects/1.o", program="two", step="load"))
    found.feed(passed("objects/1.o", "two"))
    found.feed(event("start", object="objects/1.o", program="one", step="load"))
    assert found.loading == "a.o: one"
    found.feed(passed("objects/1.o", "one"))
    assert [p.program for p in found.programs] == ["one"]
    assert not found.messages


def test_an_object_that_was_being_read_died_as_a_whole() -> None:
    found = collector()
    found.feed(event("start", object="objects/1.o", program="", step="open"))
    found.abandon(Outcome.LOST, Code.KERNEL_DIED, "silent")
    assert [p.code for p in found.programs] == [Code.KERNEL_DIED, Code.KERNEL_DIED, Code.NOT_RUN]


def test_an_object_that_can_not_be_read_is_so_for_each_program() -> None:
    found = collector()
    failure = {"step": "open", "words": ["Error loading ELF section .BTF: -EINVAL."]}
    found.feed(event("object", object="objects/1.o", failure=failure))
    found.feed(event("object", object="objects/2.o", code="loader-crashed", reason="killed"))
    assert [(p.program, p.code, p.reason) for p in found.programs] == [
        ("one", Code.BAD_BTF, "Error loading ELF section .BTF: -EINVAL."),
        ("two", Code.BAD_BTF, "Error loading ELF section .BTF: -EINVAL."),
        ("one", Code.LOADER_CRASHED, "killed"),
    ]


def test_the_first_result_counts() -> None:
    found = collector()
    found.feed(event("program", object="objects/1.o", program="one", outcome="failed"))
    found.feed(passed("objects/1.o", "one"))
    assert found.programs[0].outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "line",
    [
        b"panic: runtime error\n",
        b'{"event": "program"}\n',
        b'{"event": "program", "object": "objects/9.o", "program": "x", "outcome": "passed"}\n',
        b'{"event": "program", "object": "objects/1.o", "program": "x", "outcome": "fine"}\n',
        b'{"event": "program", "object": "objects/1.o", "program": "x", "out',
        b"[1, 2]\n",
        b"\xff\xfe\n",
        b'{"event": "object", "object": "objects/1.o", "code": "?", "reason": ""}\n',
        b'{"event": "object", "object": "objects/1.o", "failure": "no"}\n',
        b'{"event": "program", "object": "objects/1.o", "program": "x", "outcome": "failed",'
        b' "failure": {"missing": 1}}\n',
        b'{"event": "program", "object": "objects/1.o", "program": "x", "outcome": "passed",'
        b' "seconds": NaN}\n',
        b'{"event": "program", "object": "objects/1.o", "program": "x", "outcome": "passed",'
        b' "jited_bytes": "many"}\n',
        b'{"event": "kernel", "features": 1}\n',
    ],
)
def test_what_is_no_event_is_what_the_loader_said(line: bytes) -> None:
    found = collector()
    found.feed(line)
    found.close()
    assert not found.programs
    assert found.messages


@given(st.binary(max_size=300))
def test_any_output_can_be_read(data: bytes) -> None:
    found = collector()
    found.feed(data)
    found.close()
    assert not found.programs


def test_a_rejection_has_its_log_and_its_explanation(tmp_path: Path) -> None:
    found = collector(tmp_path)
    lines = [{"insn": 3, "file": "a.bpf.c", "line": 13, "text": "\t*count += 1;"}]
    for object in SUBJECTS:
        keys = {"object": object, "program": "one", "outcome": "failed", "line_info": lines}
        failure = {"step": "load", "errno": "EACCES", "words": ["Permission denied"]}
        found.feed(event("program", failure=failure, log=packed(OLD), **keys))
    first, second = found.programs
    assert first.log == str(tmp_path / "ebpf/a.o/one.log")
    assert second.log == str(tmp_path / "b ü.o/one.log")
    assert Path(first.log).read_text() == OLD
    assert (first.code, first.errno) == (Code.VERIFIER_REJECTED, "EACCES")
    assert first.reason == "R0 invalid mem access 'map_value_or_null'"
    assert first.source == "a.bpf.c:13"
    assert first.verifier_tail.endswith("R0 invalid mem access 'map_value_or_null'")


@pytest.mark.parametrize("log", ["no base64!", base64.b64encode(b"no gzip").decode()])
def test_a_log_that_is_broken_costs_the_log_only(tmp_path: Path, log: str) -> None:
    found = collector(tmp_path)
    found.feed(
        event(
            "program",
            object="objects/1.o",
            program="one",
            outcome="failed",
            log=log,
            failure={"step": "load", "errno": "EPERM", "words": ["x"]},
        )
    )
    assert (found.programs[0].log, found.programs[0].reason) == ("", "x (EPERM)")


@pytest.mark.parametrize("name", ["../../etc/x", "..", "a/b", "x" * 500])
def test_no_log_is_written_elsewhere(tmp_path: Path, name: str) -> None:
    found = collector(tmp_path / "logs")
    keys = {"object": "objects/2.o", "program": name, "outcome": "failed"}
    found.feed(event("program", log=packed(OLD), **keys))
    (written,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written.parent == tmp_path / "logs/b ü.o"


def judged(max_insns: str, count: int | None, **keys: Any) -> ProgramResult:
    declared: Sequence[Expectation] = (Expectation.model_validate(keys),) if keys else ()
    found = collector(judge=Judge(max_insns, Expectations.of(declared, "6.1.192")))
    said = "" if count is None else f"processed {count} insns (limit 1000)\n"
    found.feed(passed("objects/1.o", "one", statistics_log=said))
    return found.programs[0]


@pytest.mark.parametrize(
    ("max_insns", "count", "fails"),
    [
        ("80%", 800, False),
        ("80%", 801, True),
        ("500", 500, False),
        ("500", 501, True),
        ("100%", 1000, False),
        ("80%", None, False),
    ],
)
def test_a_program_that_comes_too_close_fails(
    max_insns: str, count: int | None, fails: bool
) -> None:
    result = judged(max_insns, count)
    assert (result.code is Code.TOO_CLOSE) == fails
    assert (result.outcome is Outcome.FAILED) == fails
    if fails:
        assert f"{count} of 1,000" in result.reason
        assert max_insns in result.reason


def test_expectations_are_asked_after_the_limit() -> None:
    result = judged("80%", 900, program="one", reason="it grew")
    assert (result.outcome, result.expected) == (Outcome.FAILED, "it grew")
    assert judged("80%", 700, program="one", reason="it grew").expected == "it grew"
    assert not judged("80%", 700, program="two", reason="it grew").expected


def test_an_oops_is_what_the_loader_crashed_of() -> None:
    found = collector()
    found.feed(
        event(
            "program",
            object="objects/1.o",
            program="one",
            outcome="error",
            code="loader-crashed",
            reason="killed",
        )
    )
    found.oops()
    assert found.programs[0].code is Code.KERNEL_DIED
    assert "oops" in found.programs[0].reason


def test_a_failure_that_does_not_count_is_optional() -> None:
    found = collector()
    failure = {"step": "load", "missing": {"kind": "helper", "name": "181"}}
    keys = {"object": "objects/1.o", "outcome": "skipped"}
    found.feed(event("program", program="one", failure=failure, excused="it is optional", **keys))
    found.feed(event("program", program="two", excused="one was loaded in its place", **keys))
    assert [(p.code, p.reason) for p in found.programs] == [
        (
            Code.OPTIONAL,
            "it is optional; unsupported-helper: this kernel has no helper bpf_loop (181)",
        ),
        (Code.OPTIONAL, "one was loaded in its place"),
    ]


def test_a_log_that_was_left_out_is_told_beside_the_reason() -> None:
    found = collector()
    found.feed(
        event(
            "program",
            object="objects/1.o",
            program="one",
            outcome="failed",
            failure={"step": "load", "errno": "E2BIG"},
            statistics_log="BPF program is too large. Processed 1000001 insn\nprocessed 1000001 "
            "insns (limit 1000000) max_states_per_insn 4 total_states 9 peak_states 9 mark_read 1",
            log_left_out="too large",
        )
    )
    (result,) = found.programs
    assert result.code is Code.TOO_COMPLEX
    assert result.reason == (
        "BPF program is too large. Processed 1000001 insn (no verifier log: too large)"
    )
    assert result.statistics.instructions_processed == 1000001


def test_what_was_left_out_of_a_program_that_loads_is_its_reason() -> None:
    found = collector()
    found.feed(passed("objects/1.o", "one", note="loaded without the object's BTF"))
    assert found.programs[0].reason == "loaded without the object's BTF"
    assert found.programs[0].code is None


def test_a_program_that_needs_the_btf_that_its_kernel_refused_has_bad_btf() -> None:
    keys = {
        "object": "objects/1.o",
        "program": "one",
        "outcome": "failed",
        "failure": {"step": "load", "errno": "EINVAL"},
        "statistics_log": "bpf_obj_new/bpf_percpu_obj_new requires prog BTF",
    }
    found = collector()
    found.feed(event("program", note="loaded without the object's BTF, which ...", **keys))
    assert found.programs[0].code is Code.BAD_BTF
    found = collector()
    found.feed(event("program", **keys))
    assert found.programs[0].code is Code.MISSING_BTF


def test_an_object_that_is_loaded_twice_has_results_and_logs_of_its_own(tmp_path: Path) -> None:
    objects = {
        "objects/1.o": LoadedObject("a.o", ("one",), loader="libbpf", label="libbpf"),
        "objects/2.o": LoadedObject(
            "a.o", ("one",), loader="aya", preset="small", label="aya.small"
        ),
    }
    found = Collector(objects, tmp_path, str, Judge(), lambda result: None)
    for place in objects:
        keys = {"object": place, "program": "one", "outcome": "failed"}
        found.feed(event("program", log=packed(OLD), failure={"step": "load"}, **keys))
    assert [(p.loader, p.preset, Path(p.log).name) for p in found.programs] == [
        ("libbpf", "", "one.libbpf.log"),
        ("aya", "small", "one.aya.small.log"),
    ]
    assert len({p.key for p in found.programs}) == 2


def test_a_log_that_can_not_be_written_tells_the_reason_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.touch()  # so that nothing can be written below it
    objects = {"objects/1.o": LoadedObject("a.o", ("one",))}
    found = Collector(objects, folder, str, Judge(), lambda result: None)
    keys = {"object": "objects/1.o", "program": "one", "outcome": "failed"}
    found.feed(
        event("program", log=packed(OLD), failure={"step": "load", "errno": "EACCES"}, **keys)
    )
    (result,) = found.programs
    assert result.code is Code.VERIFIER_REJECTED
    assert result.reason.endswith("(no verifier log: it could not be written)")
    assert not result.log


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(KEYS), JSON, max_size=8))
def test_any_keys_of_an_event_can_be_read(keys: dict[str, Any]) -> None:
    found = collector(Path("/dev/null/no"))
    found.feed(event("program", **{**keys, "object": "objects/1.o", "program": "one"}))
    for result in found.programs:
        assert result.outcome in Outcome
        assert "\n" not in result.reason
