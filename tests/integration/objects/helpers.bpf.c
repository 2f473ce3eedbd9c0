/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A helper that older kernels do not have, and one that programs of this type can never call. */
#include "common.h"

static long add_index(__u32 index, void *sum)
{
	*(__u64 *)sum += index;
	return 0;
}

SEC("raw_tp/sys_enter")
int with_loop(void *ctx)
{
	__u64 sum = 0;

	bpf_loop(100, add_index, &sum, 0);
	return sum;
}

SEC("raw_tp/sys_enter")
int of_another_type(void *ctx)
{
	__u32 word = 0;

	bpf_skb_load_bytes(ctx, 0, &word, sizeof(word));
	return word;
}
