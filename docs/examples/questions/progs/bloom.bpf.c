// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* Has a map of a type that Linux 5.16 and later have. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 1000);
	__type(value, __u64);
} seen SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int on_exec(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();

	return bpf_map_push_elem(&seen, &id, BPF_ANY) == 0;
}
