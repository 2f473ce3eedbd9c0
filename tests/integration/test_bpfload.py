"""The loader that runs in guests, on real kernels and objects that each exercise one case.

All of it happens in one boot of each kernel, in a script that calls the loader again and again.
"""

import base64
import gzip
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.payload import shipped
from tests.integration.bpfobjects import SOURCES, compile_object
from tests.tool import ToolProject
from tests.verify.objectfiles import clang

pytestmark = pytest.mark.integration

KERNELS = ("5.10", "6.1", "6.12", "7.3")
RELEASES = {kernel: tuple(int(word) for word in kernel.split(".")) for kernel in KERNELS}
ODD_NAME = "zwei Wörter.o"
SETTINGS = (
    "--set number=42 --set negative=-7 --set flag=true --set text=hi --set list=1,2,3"
    " --set hidden=0x1234567890 --map-size sized=100"
)
# The words of each call of the loader. In the output, the name of the case comes first.
CASES = {
    "all": "--optional declared_optional --variants sum_by_loop,sum_by_hand"
    f" {SETTINGS} $(ls $objects/*.bpf.o | grep -v -e attach -e slow -e declared)"
    f" '/payload/ebpf/{ODD_NAME}'",
    "unset": "$objects/constants.bpf.o",
    "full": "--log-level full $objects/calls.bpf.o $objects/rejected.bpf.o",
    "attach": "--attach --jobs 1 $objects/attach.bpf.o $objects/rejected.bpf.o",
    "limit": "--limit 1 $objects/slow.bpf.o",
    "bad": "$objects/bad-*.o $objects/no-such-file.o $objects/calls.bpf.o",
    "large": "$(if uname -r | grep -q ^6.1; then ls $objects/large.o; else echo none; fi)",
    "declared": "$objects/declared.bpf.o",
    "declared-ignored": "$objects/declared.bpf.o",
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
    declared-ignored) export BPFMATRIX_IGNORE_REQUIREMENTS=1 ;;
    esac
    shift
    /payload/bpfload "$@"
    echo "status $?"
    unset BPFMATRIX_IGNORE_REQUIREMENTS
    umount /sys/kernel/btf 2>/dev/null
}
"""
# A worker process of the loader is started through /proc/self/exe, and so its name is "exe".
CRASH = """\
echo "case crash"
/payload/bpfload --limit 60 $objects/slow.bpf.o >/tmp/crash &
until grep -q '"program":"slow_to_verify","step":"load"' /tmp/crash; do usleep 20000; done
kill -SEGV $(pidof exe)
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


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Called]]:
    """The calls of all cases, by kernel and by the name of the case."""
    project = ToolProject(tmp_path_factory.mktemp("bpfload") / "project")
    # Emulated even where KVM is to be had: how long the verifier takes is part of a case.
    project.configure(KERNELS, payload={"ebpf": "ebpf", "go": None}, qemu={"accel": "tcg"})
    objects = project.root / "ebpf"
    objects.mkdir()
    (objects / "Makefile").write_text("all:\n")
    for source in SOURCES:
        compile_object(source, objects / f"{source.name.removesuffix('.c')}.o")
    folder = SOURCES[0].parent
    compile_object(folder / "names.bpf.c", objects / ODD_NAME)
    plain = objects / "plain_structops.bpf.o"
    compile_object(folder / "structops.bpf.c", plain, '-DSECTION=".struct_ops"')
    bad_objects(objects)
    cases = [f"case_of {name} {words}\n" for name, words in CASES.items()]
    project.script("cases", "".join((SCRIPT, *cases, CRASH)))
    loader = shipped.supervisor(Project.load(project.root), "x86_64")
    done = project.invoke(
        *("matrix", "--kernels", ",".join(KERNELS), "--timeout", "900s"),
        *("--binary", str(loader), "--binary", "cases"),
    )
    logs = {kernel: project.root / f".bpfmatrix/results/{kernel}/cases.log" for kernel in KERNELS}
    assert all(log.exists() for log in logs.values()), done.output
    return {kernel: read(log.read_text()) for kernel, log in logs.items()}


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


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def on(called: dict[str, dict[str, Called]], kernel: str) -> dict[str, Called]:
    return called[kernel]


def since(kernel: str, *release: int) -> bool:
    return RELEASES[kernel] >= release


def test_the_output_begins_and_ends_with_its_own_events(on: dict[str, Called], kernel: str) -> None:
    done = on["all"]
    assert (done.status, done.words) == (0, [])
    first, last = done.events[0], done.events[-1]
    assert first["event"] == "kernel"
    assert first["release"].startswith(kernel)
    assert first["arch"] == "x86_64"
    assert first["features"] == {"btf": True}
    assert last["event"] == "end"
    # Each program has one result, and was announced before, unless there was nothing to load.
    results = [(e["object"], e["program"]) for e in done.events if e["event"] == "program"]
    assert len(results) == len(set(results))
    started = {(e["object"], e["program"]) for e in done.events if e["event"] == "start"}
    unannounced = {program for object, program in results if (object, program) not in started}
    assert unannounced <= {"unknown_type", "sum_by_hand"}


def test_a_rejection_has_its_source_and_its_log(on: dict[str, Called]) -> None:
    event = on["all"].program("unchecked", "rejected.bpf.o")
    assert event["outcome"] == "failed"
    assert event["code"] == "verifier-rejected"
    assert event["errno"] == "EACCES"
    assert event["reason"] == "R0 invalid mem access 'map_value_or_null'"
    assert event["source"].endswith("rejected.bpf.c:18")
    assert "*count += 1;" in event["verifier_tail"]
    assert event["verifier_tail"].splitlines()[-1] != ""
    assert "processed 7 insns" in log_of(event)
    lines = {(line["line"], line["text"]) for line in event["line_info"]}
    assert (18, "*count += 1;") in lines
    assert on["all"].program("checked")["outcome"] == "passed"


def test_a_program_over_the_verifiers_limit_is_too_complex(on: dict[str, Called]) -> None:
    event = on["all"].program("too_many_paths")
    assert (event["outcome"], event["code"]) == ("failed", "too-complex")
    assert "8193 jumps is too complex" in event["reason"]
    assert "8193 jumps is too complex" in log_of(event)


def test_an_unknown_helper_is_named(on: dict[str, Called], kernel: str) -> None:
    event = on["all"].program("with_loop")
    if since(kernel, 5, 17):
        assert event["outcome"] == "passed"
    else:
        assert event["code"] == "unsupported-helper"
        assert event["reason"] == "this kernel has no helper bpf_loop (181)"
    other = on["all"].program("of_another_type")
    assert other["code"] == "unsupported-helper"
    assert "raw_tracepoint can't call bpf_skb_load_bytes" in other["reason"]


@pytest.mark.parametrize(
    ("program", "type", "release"),
    [
        ("with_bloom_filter", "bloom_filter", (5, 16)),
        ("with_user_ringbuf", "user_ringbuf", (6, 1)),
        ("with_arena", "arena", (6, 9)),
    ],
)
def test_a_map_of_a_newer_type_keeps_only_its_program_from_loading(
    on: dict[str, Called], kernel: str, program: str, type: str, release: tuple[int, int]
) -> None:
    done = on["all"]
    event = done.program(program)
    maps = {e["type"] for e in done.events if e["event"] == "map"}
    if since(kernel, *release):
        assert event["outcome"] == "passed"
        assert type in maps
    else:
        assert (event["outcome"], event["code"]) == ("failed", "unsupported-map-type")
        assert f"no map type {type}" in event["reason"]
        assert type not in maps
    assert done.program("with_array")["outcome"] == "passed"
    shared = [e for e in done.events if e["event"] == "map" and e["name"] == "shared"]
    assert [e["memory_bytes"] > 0 for e in shared] == [True]


def test_an_unknown_type_of_program_is_named(on: dict[str, Called], kernel: str) -> None:
    for name, type, release in (
        ("type_syscall", "syscall", (5, 14)),
        ("type_netfilter", "netfilter", (6, 4)),
    ):
        event = on["all"].program(name)
        assert event["type"] == type
        if since(kernel, *release):
            assert event["outcome"] == "passed"
        else:
            assert event["code"] == "unsupported-program-type"
            assert event["reason"] == f"this kernel has no program type {type}"
    assert on["all"].program("unknown_type")["code"] == "unknown-section"


def test_a_missing_target_is_named(on: dict[str, Called]) -> None:
    done = on["all"]
    assert done.program("existing_function", "targets.bpf.o")["outcome"] == "passed"
    for name, what in (
        ("no_function", "function there_is_no_such_function"),
        ("no_tracepoint", "tracepoint there_is_no_such_tracepoint"),
        ("no_hook", "LSM hook there_is_no_such_hook"),
        ("no_iterator", "iterator there_is_no_such_iterator"),
    ):
        event = done.program(name, "targets.bpf.o")
        assert event["code"] == "attach-target-missing"
        assert what in event["reason"]


def test_relocations_name_the_type_and_the_field(on: dict[str, Called]) -> None:
    done = on["all"]
    field, type = done.program("missing_field"), done.program("missing_type")
    assert field["code"] == type["code"] == "relocation-failed"
    assert "struct task_struct.there_is_no_such_field.nowhere" in field["reason"]
    assert "struct there_is_no_such_type" in type["reason"]
    assert done.program("checked_field", "relocations.bpf.o")["outcome"] == "passed"
    symbol = done.program("missing_symbol", "symbols.bpf.o")
    assert symbol["code"] == "relocation-failed"
    assert "there_is_no_such_symbol" in symbol["reason"]
    assert done.program("existing_symbol", "symbols.bpf.o")["outcome"] == "passed"
    assert done.program("version")["outcome"] == "passed"
    assert done.program("options")["outcome"] == "passed"


def test_a_missing_kfunc_is_named(on: dict[str, Called], kernel: str) -> None:
    event = on["all"].program("with_kfunc")
    if since(kernel, 6, 2):
        assert event["outcome"] == "passed"
    else:
        assert event["code"] == "unsupported-kfunc"
        assert "bpf_task_from_pid" in event["reason"]
    assert on["all"].program("checked_kfunc", "kfuncs.bpf.o")["outcome"] == "passed"
    assert on["all"].program("unchecked_kfunc")["code"] == "unsupported-kfunc"


def test_an_optional_program_that_fails_is_skipped(on: dict[str, Called]) -> None:
    done = on["all"]
    for name in ("optional_and_fails", "declared_optional"):
        event = done.program(name)
        assert (event["outcome"], event["code"]) == ("skipped", "optional")
        assert "attach-target-missing" in event["reason"]
    assert done.program("optional_and_loads")["outcome"] == "passed"


def test_the_first_variant_that_loads_counts(on: dict[str, Called], kernel: str) -> None:
    loop, hand = on["all"].program("sum_by_loop"), on["all"].program("sum_by_hand")
    if since(kernel, 5, 17):
        assert (loop["outcome"], hand["outcome"]) == ("passed", "skipped")
        assert hand["reason"] == "sum_by_loop was loaded in its place"
    else:
        assert (loop["outcome"], hand["outcome"]) == ("skipped", "passed")
        assert "unsupported-helper" in loop["reason"]


def test_the_type_of_a_tail_called_program_comes_from_its_map(on: dict[str, Called]) -> None:
    for name in ("first", "second", "third"):
        event = on["all"].program(name)
        assert (event["outcome"], event["type"]) == ("passed", "raw_tracepoint")


def test_constants_and_map_sizes_are_set(on: dict[str, Called]) -> None:
    assert on["all"].program("set")["outcome"] == "passed"
    assert on["all"].program("with_sized")["outcome"] == "passed"
    assert on["unset"].program("set")["code"] == "verifier-rejected"
    unsized = on["unset"].program("with_sized")
    assert unsized["code"] == "map-create-failed"
    assert "--map-size sized=ENTRIES" in unsized["reason"]


def test_settings_that_fit_no_object_are_refused(on: dict[str, Called]) -> None:
    for case, words in (
        ("typo", "--set nubmer=1: no object has a global variable of this name"),
        ("value", "--set number=many: expected an unsigned number"),
    ):
        assert on[case].status == 2
        assert on[case].words == [f"bpfload: {words}"]


def test_struct_ops_and_extensions_load(on: dict[str, Called]) -> None:
    for object in ("/structops.bpf.o", "/plain_structops.bpf.o"):
        for name in ("ssthresh", "cong_avoid", "undo_cwnd"):
            event = on["all"].program(name, object)
            assert (event["outcome"], event["type"]) == ("passed", "struct_ops")
            assert event["attach_to"] == f"tcp_congestion_ops:{name}"
    assert on["all"].program("decide_otherwise")["outcome"] == "passed"
    alone = on["all"].program("no_function", "extension.bpf.o")
    assert alone["code"] == "attach-target-missing"
    assert "there_is_no_such_function" in alone["reason"]


def test_an_object_without_btf_loads(on: dict[str, Called]) -> None:
    assert on["all"].program("counted")["outcome"] == "passed"
    event = on["all"].program("unchecked", "legacy.bpf.o")
    assert event["code"] == "verifier-rejected"
    assert "source" not in event


def test_a_helper_that_needs_gpl_is_named(on: dict[str, Called]) -> None:
    event = on["all"].program("proprietary")
    assert event["code"] == "verifier-rejected"
    assert "GPL" in event["reason"]


def test_names_beyond_ascii_load(on: dict[str, Called]) -> None:
    for object in ("names.bpf.o", ODD_NAME):
        event = on["all"].program("grüße", object)
        assert event["outcome"] == "passed"
        # No kernel so far takes such a name in BTF.
        assert "without the object's BTF" in event["reason"]


def test_a_loaded_program_has_statistics(on: dict[str, Called], kernel: str) -> None:
    event = on["full"].program("nested")
    assert event["outcome"] == "passed"
    found = event["statistics"]
    assert found["stack_depth"] == 32 + 128
    assert found["program_instructions"] == 29
    assert found["instructions_processed"] == 29
    assert found["instructions_limit"] == 1_000_000
    assert found["translated_bytes"] >= 29 * 8
    for name in ("verifier_us", "jited_bytes", "memory_bytes", "peak_states", "total_states"):
        assert found[name] > 0, name
    assert "max_states_per_instruction" in found


def test_the_full_log_has_each_instruction_as_often_as_it_was_walked(on: dict[str, Called]) -> None:
    event = on["full"].program("nested")
    walked = [line for line in log_of(event).splitlines() if "bpf_get_current_comm#16" in line]
    assert len(walked) >= 3
    assert any(line["text"].startswith("bpf_get_current_comm") for line in event["line_info"])
    # So has that of a rejected program; and loaded ones have none with the usual level.
    assert "R0 invalid mem access" in log_of(on["full"].program("unchecked"))
    assert "log" not in on["all"].program("checked")


def test_an_object_that_requires_a_newer_kernel(on: dict[str, Called], kernel: str) -> None:
    event = on["declared"].program("declared")
    if since(kernel, 6, 12):
        assert event["outcome"] == "passed"
    else:
        assert (event["outcome"], event["code"]) == ("skipped", "declared")
        assert event["reason"].startswith("needs 6.12 (a test), this kernel is ")
    assert on["declared-ignored"].program("declared")["outcome"] == "passed"


def test_only_the_chosen_program_is_loaded(on: dict[str, Called]) -> None:
    programs = [e["program"] for e in on["only"].events if e["event"] == "program"]
    assert programs == ["checked"]


def test_a_map_that_is_too_large_is_named(on: dict[str, Called]) -> None:
    event = on["huge"].program("with_sized")
    assert (event["outcome"], event["code"]) == ("failed", "no-memory")
    assert "map sized (hash, 2147483647 entries)" in event["reason"]


def test_without_btf_of_the_kernel_only_programs_that_need_it_fail(on: dict[str, Called]) -> None:
    done = on["no-btf"]
    for name, object in (
        ("existing_function", "targets.bpf.o"),
        ("no_function", "targets.bpf.o"),
        ("checked_field", "relocations.bpf.o"),
    ):
        event = done.program(name, object)
        assert (event["outcome"], event["code"]) == ("failed", "missing-btf"), event
    assert done.program("checked")["outcome"] == "passed"


ATTACHED = """by_kprobe by_kretprobe by_ksyscall by_tracepoint by_raw_tracepoint by_tp_btf by_fentry
    by_fexit by_lsm by_iter by_perf_event by_xdp by_socket by_cgroup_skb by_cgroup_sock
    by_cgroup_connect4 by_cgroup_sysctl by_cgroup_getsockopt by_cgroup_device by_sockops
    by_sk_lookup by_flow_dissector by_sk_skb by_sk_msg by_sk_reuseport by_uprobe"""
ATTACHED_SINCE = {
    "by_kprobe_multi": (5, 18),
    "by_netfilter": (6, 4),
    "by_tcx": (6, 6),
}


def test_programs_are_attached(on: dict[str, Called], kernel: str) -> None:
    done = on["attach"]
    for name in ATTACHED.split():
        event = done.program(name)
        assert (event["outcome"], event.get("attached")) == ("passed", True), (name, event)
    for name in ("no_function", "no_tracepoint"):
        event = done.program(name)
        assert (event["outcome"], event["attached"]) == ("failed", False)
        assert event["code"] == "attach-target-missing"
    # What is rejected is not attached, and what nobody can attach alone is not tried.
    assert "attached" not in done.program("unchecked")
    assert "attached" not in on["all"].program("checked")
    assert done.status == 0


@pytest.mark.parametrize("name", ATTACHED_SINCE)
def test_newer_kernels_attach_newer_types(on: dict[str, Called], kernel: str, name: str) -> None:
    event = on["attach"].program(name)
    if name == "by_kprobe_multi" and kernel == "6.1":
        # Debian's cloud kernel of 6.1 has no fprobe.
        assert event["code"] == "attach-failed"
    elif since(kernel, *ATTACHED_SINCE[name]):
        assert (event["outcome"], event["attached"]) == ("passed", True), event
    else:
        assert event["code"] in ("attach-failed", "unsupported-program-type")


def test_a_program_that_takes_too_long_is_ended_and_others_load(on: dict[str, Called]) -> None:
    event = on["limit"].program("slow_to_verify")
    assert (event["outcome"], event["code"]) == ("timeout", "timeout")
    assert event["reason"] == "it took longer than 1s"
    assert event["seconds"] >= 1
    assert on["limit"].program("fast_to_verify")["outcome"] == "passed"
    assert on["limit"].status == 0


def test_a_loader_that_crashes_costs_one_program(on: dict[str, Called]) -> None:
    done = on["crash"]
    crashed = [e for e in done.events if e.get("code") == "loader-crashed"]
    assert [e["outcome"] for e in crashed] == ["error"]
    assert "SIGSEGV" in crashed[0]["reason"]
    assert done.program("fast_to_verify")["outcome"] == "passed"
    assert done.status == 0


def test_broken_files_are_named_and_others_load(on: dict[str, Called]) -> None:
    done = on["bad"]
    for name, words in (
        ("bad-text.o", "is no ELF file"),
        ("bad-empty.o", "is an empty file"),
        ("bad-order.o", "big-endian"),
        ("bad-machine.o", "is no eBPF: its machine is X86_64"),
        ("bad-without-program.o", "has no program"),
        ("no-such-file.o", "no such file or directory"),
    ):
        event = done.object(name)
        assert event["code"] == "bad-object", event
        assert words in event["reason"], event
    assert done.object("bad-short.o")["code"] == "bad-object"
    assert done.object("bad-btf.o")["code"] == "bad-btf"
    assert done.program("nested")["outcome"] == "passed"
    assert done.status == 0


def test_an_object_of_a_hundred_megabytes_loads_or_needs_memory(
    called: dict[str, dict[str, Called]],
) -> None:
    done = called["6.1"]["large"]
    assert done.status == 0
    # The guest has 512 MB. It says that this is too little, or does load it.
    about = [e for e in done.events if e.get("object", "").endswith("large.o")]
    assert about[-1]["event"] in ("program", "object")
    assert about[-1].get("code", "no-memory") == "no-memory"
    assert done.events[-1]["event"] == "end"
