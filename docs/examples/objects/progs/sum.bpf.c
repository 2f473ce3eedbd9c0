// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* Adds numbers in a loop of the helper bpf_loop, which Linux 5.17 and later have. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static long add(__u32 index, __u64 *sum)
{
	*sum += index;
	return 0;
}

SEC("tracepoint/sched/sched_process_exec")
int sum_up(void *ctx)
{
	__u64 sum = 0;

	bpf_loop(100, add, &sum, 0);
	return sum > 0;
}
