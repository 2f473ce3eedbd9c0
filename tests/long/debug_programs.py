"""gdb at rejections and at places of programs, and what it shows of the verifier there.

`nox -s debug` runs it: see README.md.
"""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from bpfmatrix.debug.in_gdb.messages import is_trace
from tests.integration.bpfobjects import compile_object
from tests.long.debug_with_source import SUITES
from tests.tool import Finished, ToolProject

PROGRAMS = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event { __u64 when; char comm[16]; };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct event);
} events SEC(".maps");

SEC("raw_tracepoint/sys_enter")
int no_check(void *ctx)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	*count += 1; /* without a check */
	return 0;
}

static __attribute__((noinline)) int twice(int a, __u64 *p)
{
	if (a > 3)
		*p = a;
	return a * 2;
}

SEC("raw_tracepoint/sys_enter")
int wrong_argument(void *ctx)
{
	__u64 on_stack = 7;
	int value = twice(bpf_get_prandom_u32(), &on_stack);

	return bpf_map_update_elem(&counts, &value, ctx, on_stack); /* no value */
}

SEC("raw_tracepoint/sys_enter")
int good(void *ctx)
{
	__u32 key = bpf_get_prandom_u32() & 1;
	struct event *event = bpf_map_lookup_elem(&events, &key);

	if (!event)
		return 0;
	event->when = 7; /* the place */
	return 0;
}

SEC("raw_tracepoint/sys_enter")
int from_helper(void *ctx)
{
	__u64 at = 0;
	__u32 key = 0;
	struct event *event;

	bpf_probe_read_kernel(&at, sizeof(at), ctx);
	event = bpf_map_lookup_elem(&events, &key);
	if (event)
		event->comm[at] = 1;
	return 0;
}

static long called_back(__u32 index, struct event **event)
{
	(*event)->comm[index] = 1;
	return 0;
}

SEC("raw_tracepoint/sys_enter")
int in_callback(void *ctx)
{
	__u32 key = 0;
	struct event *event = bpf_map_lookup_elem(&events, &key);

	if (event)
		bpf_loop(10, called_back, &event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""


def line_of(comment: str) -> int:
    """Return the number of the line with a comment."""
    [found] = (n for n, line in enumerate(PROGRAMS.splitlines(), 1) if f"/* {comment} */" in line)
    return found


@pytest.fixture
def loading(project: ToolProject) -> ToolProject:
    """A project with an object, whose kernels are Debian's."""
    source = project.root / "programs.bpf.c"
    source.write_text(PROGRAMS)
    compile_object(source, project.root / "programs.bpf.o", "-Wno-int-conversion")
    project.configure()
    path = project.root / "kernels.yaml"
    data = yaml.safe_load(path.read_text())
    data["kernels"] = {
        f"{kernel}-{arch}": {"arch": arch, "source": {"apt": {"suite": suite}}}
        for kernel, suite in SUITES.items()
        for arch in ("x86_64", "aarch64")
    }
    path.write_text(yaml.safe_dump(data))
    return project


def stop(project: ToolProject, kernel: str, program: str, place: str, batch: str) -> str:
    """Let gdb stop at a place of a program; return what it shows from there on."""
    done: Finished = project.invoke(
        *("debug", "--kernel", kernel, "--object", "programs.bpf.o", "--program", program),
        *("--break", place, "--batch", batch),
    )
    assert done.status == 0, done.output
    return done.output


KERNELS = [f"{kernel}-{arch}" for kernel in SUITES for arch in ("x86_64", "aarch64")]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_rejection(loading: ToolProject, kernel: str) -> None:
    said = stop(loading, kernel, "no_check", "rejection", "bpf-path; bpf-why r0; frame")
    assert "the verifier rejects no_check: R0 invalid mem access 'map_value_or_null'\n" in said
    line = line_of("without a check")
    assert re.search(rf"^; \S*programs\.bpf\.c:{line}: \*count \+= 1;", said, re.M)
    # The registers, as the log shows them, and the instruction.
    assert re.search(r"^R0=map_value_or_null\(id=1,map=counts,ks=4,vs=8\) .*R10=fp0", said, re.M)
    assert re.search(r"^=> +\d+: \(79\) r1 = \*\(u64 \*\)\(r0 \+0\)$", said, re.M)
    # The path ends there, and the register came from the lookup.
    assert re.search(rf"^ +\d+  \S*programs\.bpf\.c:{line}: ", said, re.M)
    assert re.search(r"\(85\) call bpf_map_lookup_elem#1: the call returns it$", said, re.M)
    # The selected frame is the one that rejects it.
    assert re.search(r"^#1 .*check_mem_access \(env=", said, re.M)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_message_in_parts_and_a_path_through_a_function(
    loading: ToolProject, kernel: str
) -> None:
    said = stop(loading, kernel, "wrong_argument", "rejection", "bpf-path; bpf-why r4; bpf-why r3")
    assert re.search(r"^the verifier rejects wrong_argument: R3 type=ctx expected=fp\b", said, re.M)
    # Into the function and back, and the stack's slot that the register was loaded from.
    assert re.search(r"^ +\d+: \(85\) call pc\+\d+$", said, re.M)
    assert re.search(r"^ +\d+: \(95\) exit$", said, re.M)
    assert re.search(r"r3 s< 0x4 goto pc\+2: not taken$", said, re.M)
    assert "R4 is loaded from fp-8\n" in said
    assert "R1 is stored to fp-8\n" in said
    assert "R1 is the argument of the program" in said


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_helper_that_writes_the_stack(loading: ToolProject, kernel: str) -> None:
    said = stop(loading, kernel, "from_helper", "rejection", "bpf-why r1; bpf-why r0")
    assert re.search(r"bpf_probe_read_kernel#113: it may write fp-\d+, through R1$", said, re.M)


@pytest.mark.parametrize("kernel", [one for one in KERNELS if not one.startswith("5.10")])
def test_a_path_into_a_callback(loading: ToolProject, kernel: str) -> None:
    said = stop(loading, kernel, "in_callback", "rejection", "bpf-path; bpf-why r6")
    assert re.search(r"^ +\d+: \(15\) if r0 == 0x0 goto pc\+\d+: not taken$", said, re.M)
    assert re.search(r"call bpf_loop#181: calls back, to \d+$", said, re.M)
    assert "it enters the function, in which nothing has written R6\n" in said


def test_a_batch_goes_on_when_nothing_stops_the_guest(loading: ToolProject) -> None:
    done = loading.invoke(
        *("debug", "--kernel", "6.1-x86_64", "--object", "programs.bpf.o", "--program", "good"),
        *("--break", "insn:good:1", "--batch", "continue; continue; print 6 * 7"),
    )
    assert (done.status, "\n$1 = 42\n" in done.output) == (1, True)
    why = "the work has ended, and nothing else stopped the guest"
    assert done.output.count(f"`continue`: {why}") == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_line_of_a_program(loading: ToolProject, kernel: str) -> None:
    line = line_of("the place")
    place, batch = f"programs.bpf.c:{line}", "bpf-dump map events; bpf-dump prog; bpf-maps"
    said = stop(loading, kernel, "good", place, batch)
    shown = "the verifier comes to this instruction:\nprogram good, instruction "
    assert said.count(shown) == 1
    assert re.search(rf"^; \S*programs\.bpf\.c:{line}: event->when = 7;", said, re.M)
    # The lookup's result is not NULL behind the check.
    assert re.search(r"^R0=map_value\(.*map=events,ks=4,vs=24\)", said, re.M), said
    assert '\n0: {.when = 0, .comm = ""}\n1: {.when = 0, .comm = ""}\n' in said
    assert re.search(r"^ +0: \(85\) call bpf_get_prandom_u32#7$", said, re.M)
    assert re.search(r"^ +\d+: \(18\) r1 = map events$", said, re.M)


# Calls of `verbose` in C: a format, and what follows it.
_FORMAT = r'verbose\(\s*env\s*,\s*((?:"(?:[^"\\]|\\.)*"\s*)+)'
_TRACES = re.compile(rf"log\.level & BPF_LOG_\w+[^;{{}}]*\)\s*(?:\{{[^{{}}]*)?\b{_FORMAT}")
_REASONS = re.compile(rf"\b{_FORMAT}[^;]*;\s*return -E[A-Z]+;")
# The last parts of some reasons.
_PARTS = ("\n", "%s\n", " should have been in %s\n")


def formats(pattern: re.Pattern[str], folder: Path) -> list[str]:
    """Return the formats that match in the verifier's sources, as C has them."""
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob("kernel/bpf/*.c"))]
    literals = [match for text in texts for match in pattern.findall(text)]
    whole = ["".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literal)) for literal in literals]
    return [one.replace("\\n", "\n").replace("\\t", "\t") for one in whole]


@pytest.mark.parametrize("kernel", [f"{kernel}-x86_64" for kernel in SUITES])
def test_which_of_the_verifiers_messages_are_reasons(loading: ToolProject, kernel: str) -> None:
    said = stop(loading, kernel, "good", "insn:good:1", "print 1")
    found = re.search(r"^symbols (\S+)/vmlinux ", said, re.M)
    assert found, said
    folder = loading.root / found[1] / "source"
    traces, reasons = formats(_TRACES, folder), formats(_REASONS, folder)
    assert len(traces) >= 10
    assert len(reasons) >= 150
    # What is written only if the log is asked for does not end the program's verification.
    assert [one for one in traces if not is_trace(one)] == []
    assert [one for one in reasons if is_trace(one) and one not in _PARTS] == []


def test_an_instruction_by_its_number(loading: ToolProject) -> None:
    said = stop(loading, "6.1-x86_64", "good", "insn:good:1", "continue")
    assert said.count("program good, instruction 1 of ") == 1
    assert "✓ good" in said
    done = loading.invoke(
        *("debug", "--kernel", "6.1-x86_64", "--object", "programs.bpf.o", "--names"),
        *("--break", "insn:1", "--batch", "continue"),
    )
    assert done.status == 2
    assert "error: --break insn:1: gdb has only the names of this kernel's functions" in done.output


# bpf(2) without a library: programs that are refused without a message of the verifier.
SILENT = """
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static void load(const char *name, int count, int lines)
{
	struct bpf_insn insns[] = {{.code = 0xb7}, {.code = 0x95}};
	struct bpf_line_info line = {0};
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attr.insns = (unsigned long)insns;
	attr.insn_cnt = count;
	attr.license = (unsigned long)"GPL";
	strcpy(attr.prog_name, name);
	attr.line_info_cnt = lines;
	attr.line_info = (unsigned long)&line;
	attr.line_info_rec_size = sizeof(line);
	attr.prog_btf_fd = 77;
	syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}
int main(void)
{
	load("", 0, 0); /* as a library probes */
	load("no_insns", 0, 0);
	load("no_btf", 2, 1);
	return 0;
}
"""

# Maps with content, and then a stop.
MAPS = """
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static void fill(int type, const char *name, int key_size, const void *key, const void *value)
{
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = type;
	attr.key_size = key_size;
	attr.value_size = 8;
	attr.max_entries = 3;
	strcpy(attr.map_name, name);
	fd = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
	memset(&attr, 0, sizeof(attr));
	attr.map_fd = fd;
	attr.key = (unsigned long)key;
	attr.value = (unsigned long)value;
	syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr));
}
int main(void)
{
	unsigned long values[64];
	unsigned int key = 2;
	char word[6] = "hello", text[64];
	int i;

	for (i = 0; i < 64; i++)
		values[i] = 100 + i;
	fill(BPF_MAP_TYPE_ARRAY, "array", 4, &key, values);
	fill(BPF_MAP_TYPE_HASH, "hash", 6, word, values);
	fill(BPF_MAP_TYPE_PERCPU_ARRAY, "cpu_array", 4, &key, values);
	fill(BPF_MAP_TYPE_PERCPU_HASH, "cpu_hash", 4, &key, values);
	return read(open("/proc/version", O_RDONLY), text, sizeof(text)) < 0;
}
"""


def build(project: ToolProject, source: str) -> str:
    """Build a static executable for this machine."""
    command = ["gcc", "-x", "c", "-", "-static", "-O1", "-o", f"{project.root}/program"]
    subprocess.run(command, input=source, text=True, check=True)
    return "program"


@pytest.mark.parametrize("names", [(), ("--names",)])
def test_an_error_without_a_message(loading: ToolProject, names: tuple[str, ...]) -> None:
    done = loading.invoke(
        *("debug", "--kernel", "6.1-x86_64", "--binary", build(loading, SILENT), *names),
        *("--break", "rejection", "--batch", "continue"),
    )
    assert "the kernel refuses no_insns before the verifier begins: E2BIG, " in done.output
    assert "the verifier has rejected no_btf: EBADF, Bad file descriptor, without" in done.output


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "7.3"])
def test_the_content_of_maps(loading: ToolProject, kernel: str) -> None:
    names = ("array", "hash", "cpu_array", "cpu_hash")
    done = loading.invoke(
        *("debug", "--kernel", f"{kernel}-x86_64", "--binary", build(loading, MAPS)),
        *("--break", "version_proc_show"),
        *("--batch", "; ".join(f"bpf-dump map {name}" for name in names)),
    )
    assert done.status == 0, done.output
    assert "array, at most 3 entries\n0: 0\n1: 0\n2: 100\n" in done.output
    assert "68 65 6c 6c 6f 00: 100\n" in done.output
    # A copy of each of the guest's two processors.
    assert done.output.count("\n2, CPU 0: 100\n2, CPU 1: 101\n") == 2
