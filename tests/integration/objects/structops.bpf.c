/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A TCP congestion control. Kernels from 5.6 on load it from either of the two sections. */
#include "common.h"

#ifndef SECTION
#define SECTION ".struct_ops.link"
#endif

struct sock;

struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
} KERNEL;

SEC("struct_ops/ssthresh")
__u32 ssthresh(unsigned long long *ctx)
{
	return 2;
}

SEC("struct_ops/cong_avoid")
void cong_avoid(unsigned long long *ctx)
{
}

SEC("struct_ops/undo_cwnd")
__u32 undo_cwnd(unsigned long long *ctx)
{
	return 2;
}

SEC(SECTION)
struct tcp_congestion_ops calm = {
	.ssthresh = (void *)ssthresh,
	.cong_avoid = (void *)cong_avoid,
	.undo_cwnd = (void *)undo_cwnd,
	.name = "calm",
};
