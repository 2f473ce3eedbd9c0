/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Each iteration adds a path that the verifier has to visit later. It gives up after 8192 paths. */
#include "common.h"

SEC("raw_tp/sys_enter")
int too_many_paths(void *ctx)
{
	__u64 sum = 0;

	for (int i = 0; i < 10000; i++) {
		if (bpf_get_prandom_u32() > 7) {
			sum += i;
			asm volatile("" : "+r"(sum)); /* keeps the compiler from removing the jump */
		}
	}
	return sum;
}
