/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A function with a stack of 32 bytes calls two with 64 and 128 bytes: the deepest is 32 + 128. */
#include "common.h"

static __attribute__((noinline)) int small(void *ctx)
{
	char stack[64];

	bpf_get_current_comm(stack, sizeof(stack));
	return stack[0];
}

static __attribute__((noinline)) int large(void *ctx)
{
	char stack[128];

	bpf_get_current_comm(stack, sizeof(stack));
	return stack[0];
}

SEC("raw_tp/sys_enter")
int nested(void *ctx)
{
	char stack[32];

	bpf_get_current_comm(stack, sizeof(stack));
	return small(ctx) + large(ctx) + stack[0];
}
