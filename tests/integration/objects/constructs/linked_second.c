/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Linked with linked_first.c, whose weak definitions these replace. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern __u64 count;
int factor = 500;

__attribute__((noinline)) int scale(int x)
{
	return x * 3;
}

static __attribute__((noinline)) int local(int x)
{
	return x + 1;
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	count += scale(ctx->ingress_ifindex) + local(ctx->rx_queue_index);
	return 2;
}

SEC("tc")
int third(struct __sk_buff *ctx)
{
	count += local(ctx->len);
	return 0;
}
