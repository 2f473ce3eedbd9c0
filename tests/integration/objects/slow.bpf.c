/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Within the verifier's limit of a million instructions, but that takes a while. */
#include "common.h"

SEC("raw_tp/sys_enter")
int long_way(void *ctx)
{
	volatile __u64 sum = 0;

	for (int i = 0; i < 120000; i++)
		sum += i;
	return sum;
}

SEC("raw_tp/sys_enter")
int short_way(void *ctx)
{
	return 0;
}
