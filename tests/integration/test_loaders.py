"""The loaders that run in guests: one suite for all of them, on real kernels and objects.

Each object exercises one case. All of it happens in one boot of each kernel for each loader, in a
script that calls the supervisor again and again. What is tested is what a loader reports: the facts
of docs/loaders.md, and the events that the supervisor makes of them.
"""

import base64
import gzip
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.payload import shipped
from tests.integration.bpfobjects import SOURCES, compile_object
from tests.integration.kernels import middle
from tests.tool import ToolProject
from tests.verify.objectfiles import clang

pytestmark = pytest.mark.integration

RELEASES = {"5.10": (5, 10), "6.1": (6, 1), "6.12": (6, 12), "7.3": (7, 3)}
STEPS = ("open", "btf", "map", "relocate", "target", "load", "attach")
LONG_NAME = "a_name_that_is_longer_than_the_fifteen_bytes_that_the_kernel_keeps"
ODD_NAME = "zwei Wörter.o"
SETTINGS = (
    "--set number=42 --set negative=-7 --set flag=true --set text=hi --set list=1,2,3"
    " --set hidden=0x1234567890 --map-size sized=100"
)
# aya refuses an object as a whole for one section of a kind that it does not know. These are the
# first such sections of the objects here.
REFUSED_BY_AYA = {
    "attach_more.bpf.o": "ksyscall/getpid",
    "maps.bpf.o": "syscall",
    "optional.bpf.o": "?fentry/there_is_no_such_function",
    "structops.bpf.o": "struct_ops/ssthresh",
    "tailcalls.bpf.o": "tail",
    "types.bpf.o": "syscall",
}
# The words of each call of the supervisor. In the output, the name of the case comes first.
CASES = {
    "all": "--optional declared_optional --variants sum_by_loop,sum_by_hand"
    f" {SETTINGS} $(ls $objects/*.bpf.o | grep -v -e attach -e slow -e declared)"
    f" '/payload/ebpf/{ODD_NAME}'",
    "unset": "$objects/constants.bpf.o",
    "full": "--log-level full $objects/calls.bpf.o $objects/rejected.bpf.o",
    "attach": "--attach --jobs 4 $objects/attach.bpf.o $objects/attach-again.bpf.o"
    " $objects/attach_more.bpf.o $objects/rejected.bpf.o $objects/structops.bpf.o",
    "limit": "--limit 1 $objects/slow.bpf.o",
    "bad": "$objects/bad-*.o $objects/no-such-file.o $objects/calls.bpf.o",
    "large": "$(if uname -r | grep -q ^7.3; then ls $objects/large.o; else echo none; fi)",
    "only": "--only checked $objects/rejected.bpf.o",
    "huge": "--only with_sized --map-size sized=0x7fffffff $objects/constants.bpf.o",
    "no-btf": "$objects/targets.bpf.o $objects/relocations.bpf.o $objects/rejected.bpf.o",
    "typo": "--set nubmer=1 $objects/constants.bpf.o",
    "value": "--set number=many $objects/constants.bpf.o",
}
SCRIPT = """\
objects=/payload/ebpf
case_of() {
    echo "case $1"
    case $1 in
    no-btf) mount -t tmpfs none /sys/kernel/btf ;;
    esac
    shift
    /payload/bpfload --loader /payload/LOADER "$@"
    echo "status $?"
    umount /sys/kernel/btf 2>/dev/null
}
"""
# Two objects, of each of which one program crashes the loader.
CRASHES = """\
echo "case crash"
cp $objects/slow.bpf.o /tmp/first.o
cp $objects/slow.bpf.o /tmp/second.o
supervise="/payload/bpfload --loader /payload/LOADER"
$supervise --jobs 1 --limit 60 /tmp/first.o /tmp/second.o >/tmp/crash &
for object in first second; do
    until grep -q "$object.*slow_to_verify.*load" /tmp/crash 2>/dev/null; do usleep 20000; done
    kill -SEGV $(pidof LOADER)
done
wait $!
status=$?
cat /tmp/crash
echo "status $status"
"""

Event = dict[str, Any]


@dataclass(frozen=True)
class Called:
    """The output and the exit status of one call of the loader."""

    status: int
    events: list[Event]
    words: list[str]
    """The lines that are not events."""

    def program(self, name: str, object: str = "") -> Event:
        """Return the one event of a program."""
        [found] = [
            event
            for event in self.events
            if event["event"] == "program"
            and event["program"] == name
            and event["object"].endswith(object)
        ]
        return found

    def object(self, name: str) -> Event:
        """Return the one event of an object that could not be read."""
        [found] = [
            event
            for event in self.events
            if event["event"] == "object" and event["object"].endswith(name)
        ]
        return found


@dataclass(frozen=True)
class Calls:
    """All calls with one loader, by kernel and by the name of the case."""

    loader: str
    by_kernel: dict[str, dict[str, Called]]

    def refused_by_aya(self, done: Called, object: str) -> bool:
        """Tell whether the loader is aya, and refused an object for the section that is known."""
        if self.loader != "aya" or object not in REFUSED_BY_AYA:
            return False
        assert missing(done.object(f"/{object}")) == ("section", REFUSED_BY_AYA[object])
        return True


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.aya) if name == "aya" else name
        for name in shipped.LOADERS
    ],
)
def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """The calls of all cases with a loader; skipped if this machine can't build the loader.

    They are made on the kernels of the tests that were selected.
    """
    kernels = [kernel for kernel in RELEASES if kernel in selected_kernels(request)]
    name = request.param
    project = ToolProject(tmp_path_factory.mktemp("loaders") / "project")
    # Emulated even where KVM is to be had: how long the verifier takes is part of a case.
    project.configure(kernels, payload={"ebpf": "ebpf", "go": None}, qemu={"accel": "tcg"})
    loaded = Project.load(project.root)
    try:
        loader = shipped.loader(loaded, name, "x86_64")
    except BpfmatrixError as error:
        if name != "aya":  # the one that is optional
            raise
        pytest.skip(str(error))
    program = project.root / f"loader-{name}"
    shutil.copyfile(loader, program)
    program.chmod(0o755)
    make_objects(project.root / "ebpf")
    cases = [f"case_of {case} {words}\n" for case, words in CASES.items()]
    script = "".join((SCRIPT, *cases, CRASHES)).replace("LOADER", program.name)
    project.script("cases", script)
    supervisor = shipped.supervisor(loaded, "x86_64")
    done = project.invoke(
        *("matrix", "--kernels", ",".join(kernels), "--timeout", "900s"),
        *("--binary", str(supervisor), "--binary", str(program), "--binary", "cases"),
    )
    logs = {kernel: project.root / f".bpfmatrix/results/{kernel}/cases.log" for kernel in kernels}
    assert all(log.exists() for log in logs.values()), done.output
    return Calls(name, {kernel: read(log.read_text()) for kernel, log in logs.items()})


def selected_kernels(request: pytest.FixtureRequest) -> set[str]:
    """Return the kernels of the tests of this module that pytest was asked to run."""
    parameters = (
        item.callspec.params
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
        if hasattr(item, "callspec")
    )
    return {str(found["kernel"]) for found in parameters if "kernel" in found}


def make_objects(objects: Path) -> None:
    """Write all objects, and the Makefile that the payload needs beside them."""
    objects.mkdir()
    (objects / "Makefile").write_text("all:\n")
    for source in SOURCES:
        compile_object(source, objects / f"{source.name.removesuffix('.c')}.o")
    folder = SOURCES[0].parent
    compile_object(folder / "names.bpf.c", objects / ODD_NAME)
    plain = objects / "plain_structops.bpf.o"
    compile_object(folder / "structops.bpf.c", plain, '-DSECTION=".struct_ops"')
    shutil.copyfile(objects / "attach.bpf.o", objects / "attach-again.bpf.o")
    bad_objects(objects)


def read(log: str) -> dict[str, Called]:
    """Return the calls of the loader in the script's log, by the names of their cases."""
    result = {}
    for part in log.split("case ")[1:]:
        name, *lines = part.splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        words = [line for line in lines if not line.startswith("{")]
        status = int(words.pop().removeprefix("status "))
        result[name] = Called(status, events, words)
    return result


def bad_objects(folder: Path) -> None:
    """Write files that are broken as objects, each in another way."""
    (folder / "bad-text.o").write_text("this is a text\n" * 10)
    (folder / "bad-empty.o").write_bytes(b"")
    whole = (folder / "rejected.bpf.o").read_bytes()
    (folder / "bad-short.o").write_bytes(whole[:200])
    (folder / "bad-btf.o").write_bytes(whole.replace(b"\x9f\xeb\x01\0", b"\x9f\xeb\x63\0", 1))
    compile_plain("-target", "bpfeb", "int x;", folder / "bad-order.o")
    compile_plain("-target", "x86_64-linux-gnu", "int x;", folder / "bad-machine.o")
    compile_plain("-target", "bpf", "int x;", folder / "bad-without-program.o")
    # A valid object of a hundred megabytes.
    compile_plain("-target", "bpf", LARGE, folder / "large.o")


LARGE = """
char data[100 << 20] = {1};
__attribute__((section("raw_tp/sys_enter"), used)) int large(void *ctx) { return data[5]; }
char LICENSE[] __attribute__((section("license"))) = "GPL";
"""


def compile_plain(option: str, target: str, source: str, output: Path) -> None:
    subprocess.run(
        [clang(), option, target, "-O2", "-x", "c", "-c", "-", "-o", output],
        input=source.encode(),
        check=True,
    )


def log_of(event: Event) -> str:
    return gzip.decompress(base64.b64decode(event["log"])).decode()


def lines_of(event: Event) -> set[tuple[int, int, str]]:
    """Return the instruction, the line's number and the line's text of each line of C."""
    return {(line["insn"], line["line"], line["text"].strip()) for line in event["line_info"]}


def words_of(event: Event) -> str:
    """Return what the library said of a failure, and the verifier's log."""
    log = log_of(event) if "log" in event else ""
    return "\n".join([*event["failure"].get("words", ()), log])


def missing(event: Event) -> tuple[str, str]:
    """Return the kind and the name of what the library knows to be missing."""
    found = event["failure"].get("missing", {})
    return found.get("kind", ""), found.get("name", "")


@pytest.fixture(params=("5.10", middle("6.1"), middle("6.12"), "7.3"))
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def on(calls: Calls, kernel: str) -> dict[str, Called]:
    return calls.by_kernel[kernel]


def since(kernel: str, *release: int) -> bool:
    return RELEASES[kernel] >= release


def test_the_output_begins_and_ends_with_its_own_events(
    calls: Calls, on: dict[str, Called], kernel: str
) -> None:
    done = on["all"]
    assert (done.status, done.words) == (0, [])
    first, last = done.events[0], done.events[-1]
    assert first["event"] == "kernel"
    assert first["release"].startswith(kernel)
    assert first["arch"] == "x86_64"
    assert first["loader"] == calls.loader
    assert first["loader_version"]
    assert first["features"] == {"btf": True}
    assert last["event"] == "end"
    # Each program has one result, and was announced before, unless another one was loaded instead.
    results = [(e["object"], e["program"]) for e in done.events if e["event"] == "program"]
    assert len(results) == len(set(results))
    started = {(e["object"], e["program"]) for e in done.events if e["event"] == "start"}
    unannounced = {program for object, program in results if (object, program) not in started}
    assert unannounced <= {"sum_by_hand"}


def test_a_failure_has_a_step_and_words_or_a_code(on: dict[str, Called]) -> None:
    for case in on.values():
        for event in case.events:
            assert event.get("outcome") in (None, "passed", "failed", "skipped", "timeout", "error")
            if event.get("outcome") == "failed" or event["event"] == "object":
                assert "code" in event or event["failure"]["step"] in STEPS, event
                assert "code" in event or len(event["failure"]) > 1 or log_of(event), event


def test_a_rejection_has_its_source_lines_and_its_log(on: dict[str, Called]) -> None:
    event = on["all"].program("unchecked", "rejected.bpf.o")
    assert event["outcome"] == "failed"
    assert event["failure"]["step"] == "load"
    assert event["failure"]["errno"] == "EACCES"
    log = log_of(event)
    assert "R0 invalid mem access 'map_value_or_null'" in log
    # It shows registers, whatever the kernel prints with the usual level.
    assert re.search(r"R0(_\w+)?=map_value_or_null\(", log)
    assert "processed 7 insns" in event["statistics_log"]
    assert (7, 18, "*count += 1;") in lines_of(event)
    assert all(line["file"].endswith(".c") for line in event["line_info"])
    assert "log_left_out" not in event
    assert on["all"].program("checked")["outcome"] == "passed"
    assert "log" not in on["all"].program("checked")


def test_a_program_over_the_verifiers_limit_has_a_short_log(
    calls: Calls, on: dict[str, Called]
) -> None:
    event = on["all"].program("too_many_paths")
    assert event["outcome"] == "failed"
    assert event["failure"]["step"] == "load"
    if calls.loader == "cilium-ebpf" and event["failure"]["errno"] == "EFAULT":
        # The library takes the error for a bug of the verifier, and drops the log.
        assert "hit verifier bug" in words_of(event)
        return
    assert "8193 jumps is too complex" in log_of(event)
    assert len(log_of(event)) < 1000
    assert "--log-level full" in event["log_left_out"]


def test_an_unknown_helper_is_in_the_log_or_missing(
    calls: Calls, on: dict[str, Called], kernel: str
) -> None:
    event = on["all"].program("with_loop")
    if since(kernel, 5, 17):
        assert event["outcome"] == "passed"
    else:
        assert event["outcome"] == "failed"
        if calls.loader == "aya" and kernel == "5.10":
            # This kernel knows no pointers to functions, and aya tells it of one.
            assert "number of funcs in func_info doesn't match" in log_of(event)
        else:
            assert missing(event) == ("helper", "181") or "unknown#181" in log_of(event)
    other = on["all"].program("of_another_type")
    assert "bpf_skb_load_bytes#26" in log_of(other)


@pytest.mark.parametrize(
    ("program", "type", "release"),
    [
        ("with_bloom_filter", "bloom_filter", (5, 16)),
        ("with_user_ringbuf", "user_ringbuf", (6, 1)),
        ("with_arena", "arena", (6, 9)),
    ],
)
def test_a_map_of_a_newer_type_keeps_only_its_program_from_loading(
    calls: Calls,
    on: dict[str, Called],
    kernel: str,
    program: str,
    type: str,
    release: tuple[int, int],
) -> None:
    done = on["all"]
    if calls.refused_by_aya(done, "maps.bpf.o"):
        return
    event = done.program(program)
    maps = {e["type"] for e in done.events if e["event"] == "map"}
    if since(kernel, *release):
        # The verifier wants an arena to be mapped, and the Go library does not map it.
        refuses = calls.loader == "cilium-ebpf" and type == "arena"
        assert event["outcome"] == ("failed" if refuses else "passed"), event
        assert type in maps
    else:
        assert event["outcome"] == "failed"
        failure = event["failure"]
        assert failure["type_supported"] is False
        # 5.10 has no programs of the type `syscall` either.
        assert failure["step"] == "map" or (kernel, type) == ("5.10", "arena")
        if failure["step"] == "map":
            assert failure["map"]["type"] == type
        assert type not in maps
    assert done.program("with_array")["outcome"] == "passed"
    shared = [e for e in done.events if e["event"] == "map" and e["name"] == "shared"]
    assert [e["memory_bytes"] > 0 for e in shared] == [True]


def test_an_unknown_type_of_program_is_probed_for(
    calls: Calls, on: dict[str, Called], kernel: str
) -> None:
    if calls.refused_by_aya(on["all"], "types.bpf.o"):
        return
    for name, type, release in (
        ("type_syscall", "syscall", (5, 14)),
        ("type_netfilter", "netfilter", (6, 4)),
    ):
        event = on["all"].program(name)
        assert event["type"] == type
        if since(kernel, *release):
            assert event["outcome"] == "passed"
        else:
            assert event["outcome"] == "failed"
            assert event["failure"]["type_supported"] is False
    unknown = on["all"].program("unknown_type")
    assert missing(unknown) == ("section", "nothing_that_libbpf_knows")
    assert "type" not in unknown


def test_a_missing_target_is_named(on: dict[str, Called]) -> None:
    done = on["all"]
    assert done.program("existing_function", "targets.bpf.o")["outcome"] == "passed"
    for name, target in (
        ("no_function", "there_is_no_such_function"),
        ("no_tracepoint", "there_is_no_such_tracepoint"),
        ("no_hook", "there_is_no_such_hook"),
        ("no_iterator", "there_is_no_such_iterator"),
    ):
        event = done.program(name, "targets.bpf.o")
        assert event["attach_to"] == target
        assert event["failure"]["step"] == "target"
        kind, missed = missing(event)
        assert kind == "target"
        assert target in missed


def test_relocations_name_the_type_and_the_field(calls: Calls, on: dict[str, Called]) -> None:
    done = on["all"]
    if calls.loader == "aya":
        # It relocates all programs of an object, or none.
        for name in ("missing_field", "missing_type", "checked_field"):
            event = done.program(name, "relocations.bpf.o")
            assert event["failure"]["step"] == "relocate"
            assert missing(event) == ("type", "there_is_no_such_type")
        return
    for name, what in (
        ("missing_field", "there_is_no_such_field"),
        ("missing_type", "there_is_no_such_type"),
    ):
        event = done.program(name)
        if calls.loader == "libbpf" and name == "missing_type":
            assert event["outcome"] == "passed"  # its size is 0
            continue
        assert event["outcome"] == "failed"
        assert what in missing(event)[1] or what in words_of(event)
    assert done.program("checked_field", "relocations.bpf.o")["outcome"] == "passed"


def test_a_missing_kernel_symbol_costs_the_program_that_uses_it(
    calls: Calls, on: dict[str, Called]
) -> None:
    done = on["all"]
    if calls.loader == "aya":
        # It resolves all symbols of an object, or loads nothing of it.
        for name in ("missing_symbol", "existing_symbol"):
            assert missing(done.program(name)) == ("ksym", "there_is_no_such_symbol")
        return
    if calls.loader == "cilium-ebpf":
        # A symbol declared as `extern const void` is more than the library takes.
        assert "expected init_task to be *Void" in words_of(done.object("symbols.bpf.o"))
        return
    assert missing(done.program("missing_symbol")) == ("ksym", "there_is_no_such_symbol")
    assert done.program("existing_symbol")["outcome"] == "passed"


def test_options_of_the_kernel_are_set(calls: Calls, on: dict[str, Called]) -> None:
    done = on["all"]
    if calls.loader == "aya":
        for name in ("version", "options"):
            event = done.program(name)
            assert event["failure"]["step"] == "open"
            assert "size of section `.kconfig`" in words_of(event)
        return
    if calls.loader == "cilium-ebpf":
        words = words_of(done.object("kconfig.bpf.o"))
        assert "CONFIG_THERE_IS_NO_SUCH_OPTION: unsupported binding: STB_WEAK" in words
        return
    assert done.program("version")["outcome"] == "passed"
    assert done.program("options")["outcome"] == "passed"


def test_a_missing_kfunc_is_named(calls: Calls, on: dict[str, Called], kernel: str) -> None:
    event = on["all"].program("with_kfunc")
    if since(kernel, 6, 2):
        assert event["outcome"] == "passed"
    elif calls.loader == "aya":
        # It resolves all functions of an object, or loads nothing of it, and names any of them.
        assert missing(event)[0] == "kfunc"
        assert missing(event)[1] in ("bpf_task_from_pid", "bpf_task_release")
        return
    else:
        assert missing(event) == ("kfunc", "bpf_task_from_pid")
    assert on["all"].program("checked_kfunc", "kfuncs.bpf.o")["outcome"] == "passed"
    unchecked = on["all"].program("unchecked_kfunc")
    assert unchecked["outcome"] == "failed"
    assert "there_is_no_such_kfunc" in missing(unchecked)[1] + words_of(unchecked)


def test_an_optional_program_that_fails_is_excused(calls: Calls, on: dict[str, Called]) -> None:
    done = on["all"]
    if calls.refused_by_aya(done, "optional.bpf.o"):
        return
    for name in ("optional_and_fails", "declared_optional"):
        event = done.program(name)
        assert (event["outcome"], event["excused"]) == ("skipped", "it is optional")
        assert missing(event)[0] == "target"
    assert done.program("optional_and_loads")["outcome"] == "passed"


def test_the_first_variant_that_loads_counts(
    calls: Calls, on: dict[str, Called], kernel: str
) -> None:
    if calls.refused_by_aya(on["all"], "optional.bpf.o"):
        return
    loop, hand = on["all"].program("sum_by_loop"), on["all"].program("sum_by_hand")
    if since(kernel, 5, 17):
        assert (loop["outcome"], hand["outcome"]) == ("passed", "skipped")
        assert hand["excused"] == "sum_by_loop was loaded in its place"
        assert "failure" not in hand
    else:
        assert (loop["outcome"], hand["outcome"]) == ("skipped", "passed")
        assert loop["excused"] == "sum_by_hand was loaded in its place"
        assert loop["failure"]["step"] == "load"


def test_a_tail_called_program_whose_section_has_no_type(
    calls: Calls, on: dict[str, Called]
) -> None:
    if calls.refused_by_aya(on["all"], "tailcalls.bpf.o"):
        return
    for name in ("first", "second"):
        event = on["all"].program(name)
        assert (event["outcome"], event["type"]) == ("passed", "raw_tracepoint")
    third = on["all"].program("third")
    if calls.loader == "libbpf":  # whose loader looks into the PROG_ARRAY
        assert third["outcome"] == "passed"
    else:
        assert (third["outcome"], missing(third)) == ("failed", ("section", "tail"))


def test_constants_and_map_sizes_are_set(calls: Calls, on: dict[str, Called]) -> None:
    assert on["all"].program("set")["outcome"] == "passed"
    assert on["all"].program("with_sized")["outcome"] == "passed"
    unset = on["unset"].program("set")
    # aya makes all maps of an object before it loads a program.
    step = "map" if calls.loader == "aya" else "load"
    assert (unset["outcome"], unset["failure"]["step"]) == ("failed", step)
    unsized = on["unset"].program("with_sized")["failure"]
    assert (unsized["step"], unsized["errno"]) == ("map", "EINVAL")
    assert (unsized["map"]["name"], unsized["map"].get("entries", 0)) == ("sized", 0)


def test_settings_that_fit_no_object_are_refused(on: dict[str, Called]) -> None:
    for case, words in (
        ("typo", "--set nubmer=1: no object has a global variable of this name"),
        ("value", "--set number=many: "),
    ):
        assert on[case].status == 2
        [line] = on[case].words
        assert line.startswith(f"bpfload: {words}")


def test_struct_ops_load(calls: Calls, on: dict[str, Called], kernel: str) -> None:
    if calls.refused_by_aya(on["all"], "structops.bpf.o"):
        return
    done, link, plain = on["all"], "/structops.bpf.o", "/plain_structops.bpf.o"
    loads = {link: True, plain: True}
    if calls.loader == "libbpf":
        loads[link] = since(kernel, 6, 4)  # for a link, libbpf needs the flag BPF_F_LINK
    else:
        assert "got '.struct_ops' section: not supported" in words_of(done.object(plain))
        del loads[plain]
    for object, expected in loads.items():
        for name in ("ssthresh", "cong_avoid", "undo_cwnd"):
            event = done.program(name, object)
            assert event["type"] == "struct_ops"
            assert event["outcome"] == ("passed" if expected else "failed"), event
            if not expected:
                # The kernel has the type: it is the flag that it does not know.
                failure = event["failure"]
                assert (failure["step"], failure["map"]["name"]) == ("map", "calm")
                assert failure.get("type_supported", True), event


def test_an_extension_loads_with_its_target(on: dict[str, Called]) -> None:
    assert on["all"].program("decide_otherwise")["outcome"] == "passed"
    alone = on["all"].program("no_function", "extension.bpf.o")
    assert alone["failure"]["step"] == "target"
    assert missing(alone) == ("target-program", "there_is_no_such_function")


def test_maps_in_the_old_format(calls: Calls, on: dict[str, Called]) -> None:
    if calls.loader == "libbpf":
        assert "legacy map definitions" in words_of(on["all"].object("legacy.bpf.o"))
        return
    assert on["all"].program("counted")["outcome"] == "passed"
    event = on["all"].program("unchecked", "legacy.bpf.o")
    assert event["failure"]["step"] == "load"
    assert "line_info" not in event


def test_a_helper_that_needs_gpl_is_in_the_log(on: dict[str, Called]) -> None:
    event = on["all"].program("proprietary")
    assert event["failure"]["step"] == "load"
    assert "GPL" in log_of(event)


def test_names_beyond_ascii(calls: Calls, on: dict[str, Called]) -> None:
    # No kernel so far takes such a name, neither in BTF nor of a program, and libbpf does not
    # change it. What counts is that the name comes through.
    for object in ("names.bpf.o", ODD_NAME):
        event = on["all"].program("grüße", object)
        assert event["failure"]["errno"] == "EINVAL"
        if calls.loader == "cilium-ebpf":
            assert event["failure"]["step"] == "btf"
            assert "Invalid name" in log_of(event)
    long = on["all"].program(LONG_NAME, "names.bpf.o")
    assert long["outcome"] == "passed"


def test_a_loaded_program_has_statistics(on: dict[str, Called]) -> None:
    event = on["full"].program("nested")
    assert event["outcome"] == "passed"
    assert event["instructions"] == 29
    assert event["translated_bytes"] >= 29 * 8
    assert event["jited_bytes"] > 0
    assert event["memory_bytes"] > 0
    assert event["seconds"] > 0
    # The functions in the order of their code, which the compiler chooses.
    assert sorted(map(sorted, event["calls"])) == [[], [], [1, 2]]
    lines = event["statistics_log"].splitlines()
    assert lines[0].startswith("verification time ")
    assert lines[-1].startswith("processed 29 insns (limit 1000000) ")


def test_the_full_log_has_each_instruction_as_often_as_it_was_walked(on: dict[str, Called]) -> None:
    event = on["full"].program("nested")
    walked = [line for line in log_of(event).splitlines() if "bpf_get_current_comm#16" in line]
    assert len(walked) >= 3
    assert any(text.startswith("bpf_get_current_comm") for _, _, text in lines_of(event))
    # So has that of a rejected program.
    assert "R0 invalid mem access" in log_of(on["full"].program("unchecked"))


def test_only_the_chosen_program_is_loaded(on: dict[str, Called]) -> None:
    programs = [e["program"] for e in on["only"].events if e["event"] == "program"]
    assert programs == ["checked"]


def test_a_map_that_is_too_large_is_named(on: dict[str, Called]) -> None:
    failure = on["huge"].program("with_sized")["failure"]
    assert (failure["step"], failure["type_supported"]) == ("map", True)
    assert failure["errno"] in ("ENOMEM", "E2BIG")
    assert (failure["map"]["type"], failure["map"]["entries"]) == ("hash", 0x7FFFFFFF)


def test_without_btf_of_the_kernel_only_programs_that_need_it_fail(on: dict[str, Called]) -> None:
    done = on["no-btf"]
    assert done.events[0]["features"] == {"btf": False}
    for name, object in (
        ("existing_function", "targets.bpf.o"),
        ("no_function", "targets.bpf.o"),
        ("checked_field", "relocations.bpf.o"),
    ):
        event = done.program(name, object)
        assert event["outcome"] == "failed"
        assert missing(event)[0] == "kernel-btf", event
    assert done.program("checked")["outcome"] == "passed"


ATTACHED = """by_kprobe by_kretprobe by_tracepoint by_raw_tracepoint by_tp_btf by_fentry
    by_fexit by_lsm by_iter by_perf_event by_xdp by_socket by_cgroup_skb by_cgroup_sock
    by_cgroup_connect4 by_cgroup_sysctl by_cgroup_getsockopt by_cgroup_device by_sockops
    by_sk_lookup by_flow_dissector by_sk_skb by_sk_msg by_sk_reuseport by_uprobe"""
ATTACHED_SINCE = {
    "by_kprobe_multi": (5, 18),
    "by_netfilter": (6, 4),
    "by_tcx": (6, 6),
}


@pytest.mark.parametrize("object", ["attach.bpf.o", "attach-again.bpf.o"])
def test_programs_are_attached_and_do_not_get_into_each_others_way(
    on: dict[str, Called], object: str
) -> None:
    done = on["attach"]
    for name in ATTACHED.split():
        event = done.program(name, object)
        assert (event["outcome"], event.get("attached")) == ("passed", True), event
    for name in ("no_function", "no_tracepoint"):
        event = done.program(name, object)
        assert (event["outcome"], event["attached"]) == ("failed", False)
        assert event["failure"]["step"] == "attach"
        assert missing(event)[0] == "target", event
    # What is rejected is not attached.
    assert "attached" not in done.program("unchecked")
    assert "attached" not in on["all"].program("checked")
    assert done.status == 0


def test_struct_ops_are_registered(calls: Calls, on: dict[str, Called], kernel: str) -> None:
    if calls.refused_by_aya(on["attach"], "structops.bpf.o"):
        return
    for name in ("ssthresh", "cong_avoid", "undo_cwnd"):
        event = on["attach"].program(name)
        if since(kernel, 6, 4):
            assert (event["outcome"], event["attached"]) == ("passed", True), event
        else:
            assert event["outcome"] == "failed"
            assert event["failure"]["step"] in ("attach", "map")


def test_what_only_a_project_can_attach_is_not_tried(calls: Calls, on: dict[str, Called]) -> None:
    done = on["attach"]
    if calls.refused_by_aya(done, "attach_more.bpf.o"):
        return
    assert done.program("by_ksyscall")["attached"]
    assert "attached" not in done.program("by_syscall")


@pytest.mark.parametrize("name", ATTACHED_SINCE)
def test_newer_kernels_attach_newer_types(
    calls: Calls, on: dict[str, Called], kernel: str, name: str
) -> None:
    if calls.refused_by_aya(on["attach"], "attach_more.bpf.o"):
        return
    event = on["attach"].program(name)
    if name == "by_kprobe_multi" and kernel == "6.1":
        # Debian's cloud kernel of 6.1 has no fprobe.
        assert (event["outcome"], event["attached"]) == ("failed", False)
        assert event["failure"]["step"] == "attach"
    elif since(kernel, *ATTACHED_SINCE[name]):
        assert (event["outcome"], event["attached"]) == ("passed", True), event
    else:
        assert event["outcome"] == "failed"
        assert event["failure"]["step"] == "attach" or not event["failure"]["type_supported"]


def test_a_program_that_takes_too_long_is_ended_and_others_load(on: dict[str, Called]) -> None:
    event = on["limit"].program("slow_to_verify")
    assert (event["outcome"], event["code"]) == ("timeout", "timeout")
    assert event["reason"] == "it took longer than 1s"
    assert event["seconds"] >= 1
    assert on["limit"].program("fast_to_verify")["outcome"] == "passed"
    assert on["limit"].status == 0


def test_a_loader_that_crashes_costs_one_program_each_time(on: dict[str, Called]) -> None:
    done = on["crash"]
    crashed = [e for e in done.events if e.get("code") == "loader-crashed"]
    assert [(e["outcome"], e["program"]) for e in crashed] == [("error", "slow_to_verify")] * 2
    for event in crashed:
        assert "segmentation" in event["reason"]
    for object in ("first.o", "second.o"):
        assert done.program("fast_to_verify", object)["outcome"] == "passed"
    assert done.status == 0


def test_broken_files_are_named_and_others_load(calls: Calls, on: dict[str, Called]) -> None:
    done = on["bad"]
    for name in ("text", "empty", "short", "order", "machine", "without-program"):
        failure = done.object(f"bad-{name}.o")["failure"]
        assert failure["step"] == "open"
        assert failure.get("words") or failure["errno"]
    # libbpf does without BTF where it can.
    if calls.loader == "libbpf":
        assert done.program("checked", "bad-btf.o")["note"]
    elif calls.loader == "aya":
        # It goes on without BTF, and then names types of it in the request for a map.
        event = done.program("checked", "bad-btf.o")
        assert (event["failure"]["step"], event["failure"]["errno"]) == ("map", "EINVAL")
        assert "object BTF couldn't be loaded" in words_of(event)
    else:
        assert "BTF" in words_of(done.object("bad-btf.o"))
    assert done.object("no-such-file.o")["failure"]["errno"] == "ENOENT"
    assert done.program("nested")["outcome"] == "passed"
    assert done.status == 0


def test_an_object_of_a_hundred_megabytes_loads_or_needs_memory(calls: Calls) -> None:
    done = calls.by_kernel["7.3"]["large"]
    assert done.status == 0
    # The guest has 512 MB. It says that this is too little, or does load it.
    about = [e for e in done.events if e.get("object", "").endswith("large.o")]
    assert about[-1]["event"] in ("program", "object")
    # aya copies the data several times, which leaves so little that it may take too long.
    codes = ("no-memory", "timeout") if calls.loader == "aya" else ("no-memory",)
    assert about[-1].get("outcome") == "passed" or (
        about[-1].get("code") in codes or about[-1]["failure"]["errno"] == "ENOMEM"
    )
    assert done.events[-1]["event"] == "end"
