// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* Has a loop that the verifier walks to its end. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__u64 total;

SEC("tracepoint/sched/sched_process_exec")
int on_exec(void *ctx)
{
	__u64 sum = bpf_get_prandom_u32();

	for (int i = 0; i < 100000; i++) {
		if (sum & 1)
			sum = sum * 3 + i;
		else
			sum ^= i;
		asm volatile("" : "+r"(sum));
	}
	total = sum;
	return 0;
}
