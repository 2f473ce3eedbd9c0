/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that may fail: one by its section, one by --optional; and one that needs a newer kernel
 * than each of its variants. */
#include "common.h"

static long turn(__u32 index, void *sum)
{
	*(__u64 *)sum += index;
	return 0;
}

SEC("?fentry/there_is_no_such_function")
int maybe(void *ctx)
{
	return 0;
}

SEC("?raw_tp/sys_enter")
int maybe_and_loads(void *ctx)
{
	return 0;
}

SEC("fentry/nor_is_there_this_one")
int declared_optional(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int sum_by_loop(void *ctx)
{
	__u64 sum = 0;

	bpf_loop(100, turn, &sum, 0);
	return sum;
}

SEC("raw_tp/sys_enter")
int sum_by_hand(void *ctx)
{
	return 4950;
}
