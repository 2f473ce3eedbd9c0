/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Linked with linked_second.c by `bpftool gen object`: these weak definitions give way. */
#include "../common.h"

__u64 count;
__attribute__((weak)) int factor = 1;

__attribute__((weak, noinline)) int scale(int x)
{
	return x * 2;
}

SEC("xdp")
int first(struct xdp_md *ctx)
{
	count += scale(ctx->ingress_ifindex);
	return factor > 100 ? 1 : 2;
}
