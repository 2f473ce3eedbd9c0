// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* Reads a field of the kernel that Linux 5.14 renamed. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct task_struct {
	long state; /* __state since 5.14 */
} __attribute__((preserve_access_index));

long last_state;

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *next = (void *)ctx[2];

	last_state = next->state;
	return 0;
}
