"""Tests whose programs the verifier rejects: the line of C, whoever loaded the program."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.host.cache import Cache
from bpfmatrix.payload.loaders import libbpf_loader
from tests.integration.bpfobjects import compile_object
from tests.tool import REPOSITORY, ToolProject

pytestmark = pytest.mark.integration

KERNELS = ("5.10", "6.1")
NULL = "R0 invalid mem access 'map_value_or_null'"

PROGRAMS = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

const volatile __u32 offset;

SEC("raw_tracepoint/sys_enter")
int on_connect(void *ctx)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	*count += 1; /* without a check */
	return 0;
}

SEC("raw_tracepoint/sys_exit")
int on_exit(void *ctx)
{
	char text[16] = {};

	return text[offset & 0xff];
}

char LICENSE[] SEC("license") = "GPL";
"""
LINE = next(n for n, text in enumerate(PROGRAMS.splitlines(), 1) if "without a check" in text)

# As bpf2go writes it: the object is in the executable.
GO = """\
package agent

import (
	"bytes"
	_ "embed"
	"testing"

	"github.com/cilium/ebpf"
)

//go:embed agent_bpfel.o
var object []byte

func load(t *testing.T, name string) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	if err := spec.Variables["offset"].Set(uint32(100)); err != nil {
		t.Fatal(err)
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("loading objects: %v", err)
	}
	collection.Close()
}

func TestConnect(t *testing.T) { load(t, "on_connect") }

func TestExit(t *testing.T) { load(t, "on_exit") }

func TestFine(t *testing.T) {}
"""

# As a skeleton of bpftool has it: the object is in the executable.
C = """\
#include <bpf/libbpf.h>

__asm__(".section .rodata\\n.balign 8\\nbegin:\\n.incbin \\"OBJECT\\"\\nend:\\n.previous\\n");
extern const char begin[], end[];

int main(void)
{
	struct bpf_object *object = bpf_object__open_mem(begin, end - begin, NULL);

	return bpf_object__load(object) ? 1 : 0;
}
"""


@pytest.fixture
def agent(tmp_path: Path) -> ToolProject:
    """A project with the object file and its source."""
    project = ToolProject(tmp_path / "project")
    project.configure(KERNELS)
    source = project.root / "bpf/agent.bpf.c"
    source.parent.mkdir()
    source.write_text(PROGRAMS)
    compile_object(source, project.root / "agent_bpfel.o")
    return project


def test_a_go_test_leads_to_the_line_of_c_once_for_all_kernels(agent: ToolProject) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(REPOSITORY / "support" / name, agent.root / name)
    (agent.root / "agent_test.go").write_text(GO)
    agent.configure(KERNELS, payload={"ebpf": None, "go": {"module": "."}})
    done = agent.invoke("matrix")
    assert done.status == 1, done.output
    after = done.output.partition("side by side")[2]
    assert after.count(f"bpf/agent.bpf.c:{LINE}  *count += 1;") == 1
    assert "TestConnect: load program on_connect: permission denied\n    bpf/agent.bpf.c:" in after
    assert "invoke debug --kernel 5.10 --run TestConnect --break rejection\n" in after
    verify = "verify agent_bpfel.o --kernels 5.10,6.1 --loader cilium-ebpf"
    assert f"invoke {verify}\n" in after
    # What its own kernel would not say: the test sets a constant.
    assert "TestExit: load program on_exit: permission denied" in after
    assert "as verify loads it, the program loads" in after
    for kernel in KERNELS:
        run = agent.result(kernel)
        first, second = run.rejections
        assert (first.test, first.code, first.reason) == ("TestConnect", "verifier-rejected", NULL)
        assert first.source == f"bpf/agent.bpf.c:{LINE}"
        assert NULL in (agent.root / first.log).read_text()
        assert (second.test, second.source, second.log) == ("TestExit", "", "")
    verified = agent.invoke(*verify.split())
    assert verified.status == 1
    assert f"bpf/agent.bpf.c:{LINE}  *count += 1;" in verified.output


def test_a_program_that_verify_rejects_too_is_explained_once(agent: ToolProject) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(REPOSITORY / "support" / name, agent.root / name)
    (agent.root / "agent_test.go").write_text(GO)
    agent.configure(("6.1",), payload={"ebpf": None, "go": {"module": "."}})
    with (agent.root / "kernels.yaml").open("a") as file:
        file.write("verify: {objects: [{path: agent_bpfel.o}]}\n")
    done = agent.invoke("matrix")
    assert done.status == 1, done.output
    assert done.output.count(f"bpf/agent.bpf.c:{LINE}  *count += 1;") == 1
    after = done.output[done.output.index("on_connect of agent_bpfel.o: ") :]
    assert "\n  failed tests       TestConnect\n" in after
    stops = "invoke debug --kernel 6.1 --run TestConnect --break rejection"
    assert f"\n  where it stops     {stops}\n" in after


def test_a_program_of_libbpf_prints_all_that_is_needed(agent: ToolProject) -> None:
    folder = agent.root / "source"
    folder.mkdir()
    (folder / "main.c").write_text(C.replace("OBJECT", str(agent.root / "agent_bpfel.o")))
    made = agent.root / "agent-test"
    libbpf_loader.build_program("agent", folder, (), os.uname().machine, Cache.default(), made)
    done, run = agent.run("agent-test")
    assert done.status == 1
    (found,) = run.rejections
    assert (found.program, found.code, found.reason) == ("on_connect", "verifier-rejected", NULL)
    assert (found.source, found.object) == (f"bpf/agent.bpf.c:{LINE}", "agent_bpfel.o")
    # The log was whole, and the object has the lines: nothing was loaded again.
    assert found.log == ""
    assert not (agent.root / ".bpfmatrix/rejections/6.1").exists()
    assert f"bpf/agent.bpf.c:{LINE}  *count += 1;" in done.output


def test_gdb_stops_where_the_program_is_rejected(agent: ToolProject) -> None:
    loader = agent.root / "loads"
    subprocess.run(
        ["gcc", "-static", "-x", "c", "-", "-o", loader], input=RAW, text=True, check=True
    )
    words = ("debug", "--kernel", "6.1", "--binary", "loads", "--names", "--break", "rejection")
    done = agent.invoke(*words, "--batch", "backtrace 2")
    assert done.status == 0, done.output
    # The names alone are enough for the whole message, and for the program's name.
    assert "the verifier rejects sets_nothing: R0 !read_ok\n" in done.output
    assert "#0  0x" in done.output
    assert "in verbose ()" in done.output


# A program that returns what it never set: `exit` alone.
RAW = """\
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	struct bpf_insn exit = {.code = BPF_JMP | BPF_EXIT};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (unsigned long)&exit,
		.insn_cnt = 1,
		.license = (unsigned long)"GPL",
		.prog_name = "sets_nothing",
	};

	return syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr)) < 0;
}
"""
