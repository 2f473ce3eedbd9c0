/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs that only tail calls reach. The section name of one implies no type. */
#include "common.h"

int second(void *ctx);
int third(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} next SEC(".maps") = {
	.values = {[0] = (void *)&second, [1] = (void *)&third},
};

SEC("raw_tp/sys_enter")
int first(void *ctx)
{
	bpf_tail_call(ctx, &next, 0);
	return 0;
}

SEC("raw_tp")
int second(void *ctx)
{
	bpf_tail_call(ctx, &next, 1);
	return 0;
}

SEC("tail")
int third(void *ctx)
{
	return 3;
}
