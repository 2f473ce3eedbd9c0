"""An eBPF object for tests of the debugger: a program that each kernel rejects, and one that loads.

The verifier rejects `on_connect` at its instruction 7, in the line `*count += 1`.
"""

from tests.integration.bpfobjects import compile_object
from tests.tool import ToolProject

PROGRAMS = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("raw_tracepoint/sys_enter")
int on_connect(void *ctx)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	/* without a check */
	*count += 1;
	return 0;
}

SEC("raw_tracepoint/sys_exit")
int on_exit(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""


def compile_rejected(project: ToolProject) -> str:
    """Compile the object in the folder of a project; return its name."""
    source = project.root / "agent.bpf.c"
    source.write_text(PROGRAMS)
    compile_object(source, project.root / "agent.bpf.o")
    return "agent.bpf.o"
