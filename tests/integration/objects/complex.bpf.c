/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Each turn has a way that the verifier has still to look at: it gives up after 8192 of them. */
#include "common.h"

SEC("raw_tp/sys_enter")
int too_many_ways(void *ctx)
{
	__u64 sum = 0;

	for (int i = 0; i < 10000; i++) {
		if (bpf_get_prandom_u32() > 7) {
			sum += i;
			asm volatile("" : "+r"(sum)); /* so that it stays a jump */
		}
	}
	return sum;
}
