/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that may fail: two by their section, one by --optional. And two variants, of which the
 * first needs a newer kernel. */
#include "common.h"

static long add_index(__u32 index, void *sum)
{
	*(__u64 *)sum += index;
	return 0;
}

SEC("?fentry/there_is_no_such_function")
int optional_and_fails(void *ctx)
{
	return 0;
}

SEC("?raw_tp/sys_enter")
int optional_and_loads(void *ctx)
{
	return 0;
}

SEC("fentry/there_is_no_other_function")
int declared_optional(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int sum_by_loop(void *ctx)
{
	__u64 sum = 0;

	bpf_loop(100, add_index, &sum, 0);
	return sum;
}

SEC("raw_tp/sys_enter")
int sum_by_hand(void *ctx)
{
	return 4950;
}
