/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Both kinds of struct_ops in one object. */
#include "../common.h"

struct tcp_congestion_ops {
	__u32 (*ssthresh)(void *sk);
	void (*cong_avoid)(void *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(void *sk);
	char name[16];
};

SEC("struct_ops")
int ssthresh(unsigned long long *ctx)
{
	return 2;
}

SEC("struct_ops")
int undo(unsigned long long *ctx)
{
	return 2;
}

SEC("struct_ops")
int avoid(unsigned long long *ctx)
{
	return 0;
}

SEC(".struct_ops")
struct tcp_congestion_ops plain = {
	.ssthresh = (void *)ssthresh,
	.undo_cwnd = (void *)undo,
	.cong_avoid = (void *)avoid,
	.name = "plain",
};

SEC(".struct_ops.link")
struct tcp_congestion_ops linked = {
	.ssthresh = (void *)ssthresh,
	.undo_cwnd = (void *)undo,
	.cong_avoid = (void *)avoid,
	.name = "linked",
};
