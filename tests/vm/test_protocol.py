import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bpfmatrix.vm.protocol import (
    CoreSplitter,
    Done,
    Event,
    Exited,
    Job,
    Left,
    Output,
    OutputSplitter,
    ProtocolError,
    Ready,
    Referee,
    Report,
    Started,
    TestCommand,
    long_text,
    parse,
)

EXITED = "exited 3 abc status=1 limit=no oom_kills=0 tainted=0 before=0 full="


def exited(**changes: str) -> str:
    values = {"status": "1", "limit": "no", "oom_kills": "0", "tainted": "0", "before": "0"}
    values["full"] = ""
    return "exited 3 abc " + " ".join(f"{k}={v}" for k, v in {**values, **changes}.items())


def test_what_the_guest_says() -> None:
    assert parse("ready 6.1.0-56-cloud-amd64") == Ready("6.1.0-56-cloud-amd64")
    assert parse("started 3") == Started(3)
    assert parse(EXITED) == Exited(3, status=1)
    assert parse("done abc") == Done()
    assert parse("ready 6.1.0 pvpanic") == Ready("6.1.0", reports_panics=True)
    assert parse("left 3 abc a module was loaded: x") == Left(3, "a module was loaded: x")


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (exited(status="137"), Exited(3, 137)),
        (exited(limit="yes"), Exited(3, 1, limit=True)),
        (exited(oom_kills="2"), Exited(3, 1, oom_kills=2)),
        (exited(tainted="128"), Exited(3, 1, oops=True)),
        (exited(tainted="12417"), Exited(3, 1, oops=True)),
        (exited(tainted="512"), Exited(3, 1, warned=True)),
        (exited(tainted="640", before="512"), Exited(3, 1, oops=True)),
        (exited(tainted="12289"), Exited(3, 1)),  # other taints, such as unsigned modules
        (exited(full="/tmp"), Exited(3, 1, full="/tmp")),
    ],
)
def test_how_a_test_exited(line: str, event: Exited) -> None:
    assert parse(line) == event


@pytest.mark.parametrize(
    "line",
    [
        *("", "x", "done", "ready", "ready a b", "started", "started x", "exited 3", "left 3"),
        *("exited x status=0", "exited 3 abc status=0", exited(status="x"), exited() + " stray"),
    ],
)
def test_what_the_guest_never_says(line: str) -> None:
    with pytest.raises(ProtocolError, match="the guest's init said"):
        parse(line)


WORDS = st.sampled_from(
    [
        *("ready", "started", "exited", "done", "1", "3", "-1", "x", "=", "status=0", "limit=no"),
        *("limit=yes", "status=", "oom_kills=0", "tainted=0", "before=0", "full="),
    ]
)


@given(st.one_of(st.text(), st.lists(WORDS).map(" ".join)))
@example("exited 1 status=" + "9" * 5000)
def test_any_line_is_an_event_or_a_protocol_error(line: str) -> None:
    try:
        event = parse(line)
    except ProtocolError as error:
        assert len(str(error)) < 1000  # noqa: PT017 - some are events
    else:
        assert isinstance(event, Ready | Started | Exited | Left | Done)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Exited(1, 1), "exit status 1"),
        (Exited(1, 139), "killed by SIGSEGV"),
        (Exited(1, 137), "killed by SIGKILL"),
        (Exited(1, 255), "exit status 255"),
        (Exited(1, 128), "exit status 128"),
        (Exited(1, 127), "exit status 127: a command was not found"),
        (Exited(1, 137, oom_kills=1), "killed by the kernel: the guest's memory was full"),
        (Exited(1, 1, full="/tmp"), "exit status 1; /tmp of the guest was full"),
    ],
)
def test_the_reason_of_an_exit(event: Exited, reason: str) -> None:
    assert event.reason == reason


def test_each_boundary_is_another_one() -> None:
    made = [TestCommand(n, ("x",), 1).boundary for n in range(100)]
    assert len(set(made)) == 100
    assert all(len(boundary) == 32 for boundary in made)


BOUNDARIES = (b"abcabcabd", b"abcabcabcabd")


@st.composite
def outputs_with_parts_of_boundaries(draw: st.DrawFn) -> list[bytes]:
    """Outputs that have parts of boundaries, but not a whole one."""
    part = st.sampled_from([b[:n] for b in BOUNDARIES for n in range(1, len(b))])
    piece = st.one_of(st.binary(max_size=6), part)
    outputs = [b"".join(draw(st.lists(piece, max_size=6))) for _ in BOUNDARIES]
    # The end of an output and the beginning of its boundary may together be a boundary that begins
    # earlier. No output has a real boundary, which is 128 random bits.
    whole = [
        (output + b).find(b) == len(output) for output, b in zip(outputs, BOUNDARIES, strict=True)
    ]
    return outputs if all(whole) else [b"", b""]


@given(outputs_with_parts_of_boundaries(), st.lists(st.integers(1, 12)), st.binary(max_size=3))
def test_outputs_are_split_exactly_however_they_arrive(
    outputs: list[bytes], sizes: list[int], stray: bytes
) -> None:
    tests = [TestCommand(n, ("x",), 1, boundary) for n, boundary in enumerate(BOUNDARIES)]
    stream = b"".join(out + test.boundary for out, test in zip(outputs, tests, strict=True)) + stray
    splitter = OutputSplitter(tests)
    found = {test.id: b"" for test in tests}
    ended: list[int] = []
    position = 0
    for size in [*sizes, len(stream)]:
        for part, last in splitter.feed(stream[position : position + size]):
            assert part.id not in ended
            found[part.id] += part.data
            if last:
                ended.append(part.id)
        position += size
    assert list(found.values()) == outputs
    assert ended == [0, 1]


def test_output_is_passed_on_before_its_end() -> None:
    splitter = OutputSplitter([TestCommand(1, ("x",), 1, b"0123456789")])
    assert splitter.feed(b"hello 01") == [(Output(1, b"hello "), False)]
    assert splitter.feed(b"2x") == [(Output(1, b"012x"), False)]
    assert splitter.feed(b"0123456789") == [(Output(1, b""), True)]


def test_a_report_comes_behind_the_output_of_its_test() -> None:
    first = TestCommand(1, ("x",), 1, b"0123", report="1", report_boundary=b"abcd")
    splitter = OutputSplitter([first, TestCommand(2, ("y",), 1, b"4567")])
    assert splitter.feed(b"out0123<xml/>abcdmore4567") == [
        (Output(1, b"out"), False),
        (Report(1, b"<xml/>"), True),
        (Output(2, b"more"), True),
    ]


def test_a_job_asks_for_the_reports_of_its_tests() -> None:
    first = TestCommand(1, ("x",), 1, report="1", report_boundary=b"abcd")
    line = job(first, TestCommand(2, ("y",), 1)).line()
    assert "; reports; " in line
    assert line.count("send_report") == 1
    assert "; send_report 1 abcd; run 2" in line


def test_a_job_in_two_parts_is_the_same_job() -> None:
    whole = job(TestCommand(1, ("x",), 1), TestCommand(2, ("y",), 1), A="b")
    first, rest = whole.setup_line(), whole.tests_line()
    assert f"{first}; {rest}" == whole.line()
    assert first.startswith("payload ")
    assert "run 1" not in first
    assert "\n" not in first + rest


CORE_BOUNDARY = b"0123456789abcdef"
# Hypothesis also tries the constants of this file. No core file has a real boundary, which is
# 128 random bits.
CORES = st.binary(max_size=40).filter(lambda core: CORE_BOUNDARY not in core)


@given(
    contents=st.lists(CORES | st.just(b"2 11 x\n" + b"\0" * 9), max_size=4),
    sizes=st.lists(st.integers(1, 30)),
)
def test_core_files_are_told_apart(contents: list[bytes], sizes: list[int]) -> None:
    boundary = CORE_BOUNDARY
    stream = b"".join(
        b"%d 11 a name\n%b%b" % (pid, content, boundary) for pid, content in enumerate(contents)
    )
    splitter, position = CoreSplitter(boundary), 0
    found: dict[int, bytes] = {}
    ended: list[int] = []
    for size in [*sizes, len(stream)]:
        for part in splitter.feed(stream[position : position + size]):
            assert (part.signal, part.name) == (11, "a name")
            assert part.pid not in ended
            found[part.pid] = found.get(part.pid, b"") + part.data
            if part.last:
                ended.append(part.pid)
        position += size
    assert found == dict(enumerate(contents))
    assert ended == list(found)


@pytest.mark.parametrize("line", [b"\n", b"1 2\n", b"x 11 sh\n"])
def test_a_core_file_without_its_first_line(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="a core file began with"):
        CoreSplitter(b"0123").feed(line)


def test_the_length_of_a_long_text_is_in_bytes() -> None:
    assert long_text("sé ssion a\nb") == b"long 13\ns\xc3\xa9 ssion a\nb"


# What guest/init defines before it reads lines, with a `run` that prints its arguments.
GUEST = r"""
NL='
'
environment() { :; }
mount() { :; }
payload() { :; }
finish() { :; }
run() { (environment; printf '%s\0' "$@"; printf 'END\0'; env -0); }
while IFS= read -r line; do
	eval "$line"
done
"""

# Any text that can be encoded, without NUL, can be an argument.
ARGUMENT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NASTY = st.sampled_from(["", " ", "\n", "'", '"', "$HOME", "`id`", "\\", "$(id)", "'\n'", "é", "*"])


def job(*tests: TestCommand, **env: str) -> Job:
    return Job(tests, "the id", env)


def in_guest_shell(job: Job) -> tuple[list[str], dict[str, str]]:
    """Let the guest's shell read a job of one test; return the words of `run` and the variables."""
    done = subprocess.run(
        ["busybox", "ash", "-c", GUEST],
        input=f"{job.line()}\n".encode(),
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        check=True,
    )
    assert done.stderr == b""
    words, _, variables = done.stdout.partition(b"END\0")
    pairs = (item.split("=", 1) for item in variables.decode().split("\0")[:-1])
    return words.decode().split("\0")[:-1], dict(pairs)


@given(st.lists(st.one_of(ARGUMENT, NASTY, st.lists(NASTY).map("".join)), max_size=4))
@example(["a\nb\n", "\n\n", "-n", "--", "'$NL'", "\r", "\x7f", "\U0001f600"])
def test_any_arguments_reach_a_test_as_they_are(arguments: list[str]) -> None:
    test = TestCommand(7, ("/payload/x", *arguments), 2.5)
    words, _ = in_guest_shell(job(test))
    start = ["folder", "/payload", "--"]
    assert words == [
        "7",
        "2.5",
        test.boundary.decode(),
        "compare",
        *start,
        "/payload/x",
        *arguments,
    ]


@given(st.one_of(ARGUMENT, NASTY), st.sampled_from(["A", "_x9", "id", "line", "status", "NL"]))
def test_any_variable_reaches_a_test_as_it_is(value: str, name: str) -> None:
    _, variables = in_guest_shell(job(TestCommand(7, ("x",), 1), **{name: value}))
    assert variables[name] == value


@pytest.mark.parametrize(
    ("seconds", "word"),
    [
        (120, "120"),
        (0.5, "0.5"),
        (1e6, "1000000"),
        (1234567.25, "1234567.25"),
        (1e-5, "0.001"),
        (1e9, "2000000"),
    ],
)
def test_a_limit_is_written_so_that_the_guests_sleep_reads_it(seconds: float, word: str) -> None:
    words, _ = in_guest_shell(job(TestCommand(7, ("x",), seconds)))
    assert words[1] == word


def test_a_job_mounts_the_payload_first_and_ends_the_machine() -> None:
    line = job(TestCommand(1, ("x",), 1), TestCommand(2, ("y",), 1), A="b").line()
    calls = [call.split()[0] for call in line.split("; ") if call != "}"]
    assert calls == ["payload", "environment()", "note", "run", "run", "finish"]


ONE, TWO = (TestCommand(n, ("x",), 1, b"boundary%d" % n) for n in (1, 2))
REAL: list[Event] = [
    Started(1),
    Exited(1, 0, secret=b"boundary1"),
    Left(1, "a module", secret=b"boundary1"),
    Started(2),
    Exited(2, 1, secret=b"boundary2"),
    Done(b"secret"),
]


def checked(events: Sequence[Event]) -> None:
    referee = Referee(Job((ONE, TWO), "id", secret=b"secret"))
    for event in events:
        referee.check(event)


def test_what_init_says_is_accepted() -> None:
    checked(REAL)


@given(
    position=st.integers(0, len(REAL)),
    event=st.one_of(
        st.builds(Started, st.integers(0, 3)),
        st.builds(Exited, st.integers(0, 3), st.just(0), secret=st.binary(max_size=9)),
        st.builds(Left, st.integers(0, 3), st.just("x"), secret=st.binary(max_size=9)),
        st.builds(Done, st.binary(max_size=9)),
        st.just(Ready("6.1")),
    ),
)
@example(position=1, event=Exited(1, 0, secret=b"boundary2"))
@example(position=2, event=Exited(1, 0, secret=b"boundary1"))  # the same, said again
@example(position=5, event=Done(b"boundary2"))
@example(position=1, event=Done(b"secret"))  # too early
def test_whatever_another_process_says_is_refused(position: int, event: Event) -> None:
    """A test does not know a secret before init has used it."""
    # In its place, `started` is as good as the real one, which is then refused.
    assume(not isinstance(event, Started) or event not in REAL[position : position + 2])
    unused = [getattr(real, "secret", None) for real in REAL[position:5]]
    assume(getattr(event, "secret", b"") not in unused or isinstance(event, Done))
    with pytest.raises(ProtocolError, match="other than the guest's init"):
        checked([*REAL[:position], event])
