/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program that takes the verifier long, within its limit of a million instructions; and one that
 * does not. */
#include "common.h"

SEC("raw_tp/sys_enter")
int slow_to_verify(void *ctx)
{
	volatile __u64 sum = 0;

	for (int i = 0; i < 120000; i++)
		sum += i;
	return sum;
}

SEC("raw_tp/sys_enter")
int fast_to_verify(void *ctx)
{
	return 0;
}
